/** New versions of the app: they are offered, and taken when a person says so. */
type Listener = () => void

/** How often a page that stays open asks for a new version, in milliseconds. */
const OFTEN = 60 * 60 * 1000

let waiting: ServiceWorker | undefined
let isReplaced = false
let isTaken = false
const listeners = new Set<Listener>()

/** Whether there is a version that this page is not of. */
export const updates = {
  get current(): boolean {
    return waiting !== undefined || isReplaced
  },
  subscribe(listener: Listener): () => void {
    listeners.add(listener)
    return () => void listeners.delete(listener)
  },
}

/** Makes the app work offline. */
export async function register(): Promise<void> {
  if (!("serviceWorker" in navigator) || !import.meta.env.PROD) return
  const { serviceWorker } = navigator
  const hadOne = serviceWorker.controller !== null
  serviceWorker.addEventListener("controllerchange", () => {
    if (isTaken) location.reload()
    // Another tab took the new version: this one keeps working as it is, and is offered it.
    else if (hadOne) (isReplaced = true), tell()
  })
  const registration = await serviceWorker.register("/sw.js", { updateViaCache: "none" })
  const offer = (worker: ServiceWorker | null) => {
    // Without a controller it is the first version, which takes nothing away.
    if (worker?.state !== "installed" || !serviceWorker.controller) return
    waiting = worker
    tell()
  }
  offer(registration.waiting)
  registration.addEventListener("updatefound", () => {
    const worker = registration.installing
    worker?.addEventListener("statechange", () => offer(worker))
  })
  const ask = () => void registration.update().catch(() => {})
  setInterval(ask, OFTEN)
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && ask())
}

/** Moves this page to the new version, when `flush` has put everything on the disk of this device. */
export async function takeUpdate(flush: () => Promise<void>): Promise<void> {
  await flush()
  isTaken = true
  if (waiting && !isReplaced) waiting.postMessage("take over")
  else location.reload()
}

function tell(): void {
  for (const listener of listeners) listener()
}
