import { keep, kept } from "./kept.ts"

/** Where a KUBE says how it is reached. */
export const CONFIG_PATH = "/.well-known/kube/config"
/** Where a KUBE syncs on the host of every app. */
export const SYNC_PATH = "/.well-known/kube/sync"

/** How long the KUBE may take to say where it syncs, in milliseconds. */
const PATIENCE = 3000

/** Most other KUBEs that are tried. */
const OTHERS = 8

/**
 * Returns the WebSocket addresses of the KUBE that serves `origin`, and of others that hold the same documents, in the order to
 * try them.
 *
 * It asks `/.well-known/kube/config`, `{ "version": 1, "sync": "wss://...", "others": ["wss://..."] }`. When nobody answers it
 * takes what it was told the last time, because the KUBE that knows the others may be the one that is away; and the app's own
 * host when there is no such thing, with an older KUBE, or a server that answers every path with a page. Never rejects.
 */
export async function findKube(origin: string = location.origin, get: typeof fetch = fetch): Promise<string[]> {
  try {
    const response = await get(new URL(CONFIG_PATH, origin), {
      headers: { accept: "application/json" },
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE),
    })
    const config: unknown = response.ok ? await response.json().catch(() => undefined) : undefined
    const addresses = syncAddresses(config)
    if (addresses.length > 0) {
      keep(key(origin), addresses.join(" "))
      return addresses
    }
  } catch {
    const addresses = kept(key(origin))
    if (addresses !== undefined) return addresses.split(" ")
  }
  const own = new URL(SYNC_PATH, origin)
  own.protocol = own.protocol === "http:" ? "ws:" : "wss:"
  return [own.href]
}

const key = (origin: string) => `kube-sync:${origin}`

/** The addresses in a config of a version that we know; none when its own is not one we may use. */
function syncAddresses(config: unknown): string[] {
  if (typeof config !== "object" || config === null) return []
  const { version, sync, others } = config as Record<string, unknown>
  const own = version === 1 ? syncAddress(sync) : undefined
  if (own === undefined) return []
  const more = Array.isArray(others) ? others.slice(0, OTHERS).map(syncAddress) : []
  return [...new Set([own, ...more.filter(address => address !== undefined)])]
}

function syncAddress(text: unknown): string | undefined {
  if (typeof text !== "string" || !URL.canParse(text)) return undefined
  const url = new URL(text)
  const isLocal = url.hostname === "localhost" || url.hostname.endsWith(".localhost") || url.hostname === "127.0.0.1"
  return url.protocol === "wss:" || (url.protocol === "ws:" && isLocal) ? url.href : undefined
}
