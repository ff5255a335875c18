/** Where a KUBE says how it is reached. */
export const CONFIG_PATH = "/.well-known/kube/config"
/** Where a KUBE syncs on the host of every app. */
export const SYNC_PATH = "/.well-known/kube/sync"

/** How long the KUBE may take to say where it syncs, in milliseconds. */
const PATIENCE = 3000

/**
 * Returns the WebSocket address of the KUBE that serves `origin`.
 *
 * It asks `/.well-known/kube/config`, `{ "version": 1, "sync": "wss://..." }`, and takes the app's own host when there is no
 * such answer: offline, an older KUBE, or a server that answers every path with a page. Never rejects.
 */
export async function findKube(origin: string = location.origin, get: typeof fetch = fetch): Promise<string> {
  try {
    const response = await get(new URL(CONFIG_PATH, origin), {
      headers: { accept: "application/json" },
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE),
    })
    const sync = response.ok ? syncAddress(await response.json()) : undefined
    if (sync) return sync
  } catch {
    // Offline, or not JSON: the app's own host is the KUBE.
  }
  const own = new URL(SYNC_PATH, origin)
  own.protocol = own.protocol === "http:" ? "ws:" : "wss:"
  return own.href
}

/** The address in a config of a version that we know; nothing when it is not one we may use. */
function syncAddress(config: unknown): string | undefined {
  if (typeof config !== "object" || config === null) return undefined
  const { version, sync } = config as Record<string, unknown>
  if (version !== 1 || typeof sync !== "string") return undefined
  const url = new URL(sync)
  const isLocal = url.hostname === "localhost" || url.hostname.endsWith(".localhost") || url.hostname === "127.0.0.1"
  return url.protocol === "wss:" || (url.protocol === "ws:" && isLocal) ? url.href : undefined
}
