// Keeps the app on this device. The page comes from the network while there is one, so a new version is seen at the next
// reload; without one, it is the last version that was kept whole. The other files are named by their content.
const version = "VERSION"
const files = ["FILES"]

addEventListener("install", event => {
  skipWaiting()
  event.waitUntil(caches.open(version).then(cache => cache.addAll(files)))
})

addEventListener("activate", event => {
  const others = names => Promise.all(names.filter(name => name !== version).map(name => caches.delete(name)))
  event.waitUntil(caches.keys().then(others).then(() => clients.claim()))
})

addEventListener("fetch", event => {
  const { request } = event
  const kept = path => caches.open(version).then(cache => cache.match(path))
  if (request.mode === "navigate") event.respondWith(fetch(request).catch(() => kept("/")))
  else if (files.includes(new URL(request.url).pathname))
    event.respondWith(kept(request).then(response => response ?? fetch(request)))
})
