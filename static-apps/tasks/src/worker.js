// Keeps one version of the app whole on this device. A new version waits until a person takes it, so a page never finds the
// files of another version under it.
const cache = "tasks-" + "VERSION"
const files = ["FILES"]

addEventListener("install", event => {
  // Not from the HTTP cache: what is not named by its content could be old there.
  const fresh = files.map(file => new Request(file, { cache: "no-cache" }))
  event.waitUntil(caches.open(cache).then(opened => opened.addAll(fresh)))
})

addEventListener("activate", event => {
  const others = async () => {
    const names = await caches.keys()
    await Promise.all(names.filter(name => name.startsWith("tasks-") && name !== cache).map(name => caches.delete(name)))
    await clients.claim()
  }
  event.waitUntil(others())
})

addEventListener("message", event => {
  if (event.data === "take over") event.waitUntil(skipWaiting())
})

addEventListener("fetch", event => {
  const { request } = event
  const url = new URL(request.url)
  if (request.method !== "GET" || url.origin !== location.origin || url.pathname.startsWith("/.well-known/")) return
  const name = request.mode === "navigate" ? "/" : url.pathname
  event.respondWith(caches.open(cache).then(async opened => (await opened.match(name)) ?? fetch(request)))
})
