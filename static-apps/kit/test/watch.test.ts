import "fake-indexeddb/auto"
import type { DocHandle } from "@automerge/automerge-repo"
import { afterEach, expect, test, vi } from "vitest"

import { connect, Watch, type Status } from "../src/index.ts"
import { keepToken } from "../src/token.ts"
import { Guarded, SlowPeer } from "./peers.ts"

interface List {
  items: string[]
}

const peers: SlowPeer[] = []
afterEach(() => Promise.all(peers.splice(0).map(peer => peer.stop())))

async function start(port = 0): Promise<SlowPeer> {
  const peer = new SlowPeer(port)
  peers.push(peer)
  await new Promise(resolve => peer.sockets.once("listening", resolve))
  return peer
}

const follow = (watch: Watch): Status[] => {
  const seen: Status[] = [watch.current]
  watch.subscribe(() => seen.push(watch.current))
  return seen
}
const becomes = (watch: Watch, status: Status) =>
  vi.waitFor(() => expect(watch.current).toBe(status), { timeout: 8000, interval: 5 })

test("a change is saved only when the peer has announced our heads, and not when it was merely sent", async () => {
  const peer = await start()
  const kube = connect({ sync: peer.url, database: "slow", tabs: false })
  const handle: DocHandle<List> = kube.repo.create<List>({ items: [] })
  const watch = new Watch(kube, handle)
  await becomes(watch, "saved")

  peer.hold()
  const seen = follow(watch)
  handle.change(list => void list.items.push("water the plants"))
  expect(watch.current).toBe("saving")
  // The peer has the change, and we have not been told.
  await vi.waitFor(() => {
    expect(peer.holds).toBeGreaterThan(0)
    expect(peer.repo.handles[handle.documentId]?.doc()).toEqual({ items: ["water the plants"] })
  })
  expect(seen).toEqual(["saved", "saving"])

  peer.release()
  await becomes(watch, "saved")
  expect(seen).toEqual(["saved", "saving", "saved"])
  watch.end()
})

test("without a connection it is said where the changes are, and all is saved when it is back", async () => {
  const peer = await start()
  const { port } = peer
  const kube = connect({ sync: peer.url, database: "lost", tabs: false })
  const handle = kube.repo.create<List>({ items: [] })
  const watch = new Watch(kube, handle)
  await becomes(watch, "saved")

  await peer.stop()
  await becomes(watch, "offline-saved")
  handle.change(list => void list.items.push("alone"))
  await becomes(watch, "offline-kept")

  const again = await start(port)
  await becomes(watch, "saved")
  expect(again.repo.handles[handle.documentId]?.doc()).toEqual({ items: ["alone"] })
  watch.end()
}, 20_000)

test("what was announced in an earlier session does not count: the peer may have lost it", async () => {
  const peer = await start()
  const { port } = peer
  const kube = connect({ sync: peer.url, database: "earlier", tabs: false })
  const handle = kube.repo.create<List>({ items: ["kept"] })
  const watch = new Watch(kube, handle)
  await becomes(watch, "saved")
  await peer.stop()
  await becomes(watch, "offline-saved")

  const empty = await start(port)
  empty.hold()
  const seen = follow(watch)
  await vi.waitFor(() => expect(empty.holds).toBeGreaterThan(0), { timeout: 8000 })
  expect(watch.current).toBe("saving")
  empty.release()
  await becomes(watch, "saved")
  expect(seen).toEqual(["offline-saved", "saving", "saved"])
  watch.end()
}, 20_000)

test("what is on this device opens without a KUBE", async () => {
  const nobody = "ws://127.0.0.1:9/"
  const first = connect({ sync: nobody, database: "alone", tabs: false })
  const { url } = first.repo.create<List>({ items: ["kept"] })
  await first.repo.flush()
  const second = connect({ sync: nobody, database: "alone", tabs: false })
  const handle = await second.repo.find<List>(url)
  expect(handle.doc()).toEqual({ items: ["kept"] })
  const watch = new Watch(second, handle)
  await becomes(watch, "offline-kept")
  watch.end()
})

test("a device that cannot store is not said to keep anything", async () => {
  const kube = connect({ sync: "ws://127.0.0.1:9/", database: "full", tabs: false })
  const handle = kube.repo.create<List>({ items: [] })
  vi.spyOn(kube.repo, "flush").mockRejectedValue(new DOMException("full", "QuotaExceededError"))
  const watch = new Watch(kube, handle)
  await becomes(watch, "refused")
  watch.end()
})

test("who is not let in is told why, comes in with a token, and is told what it may not do", async () => {
  const token = "kube_sync_right"
  const guarded = new Guarded(token)
  await new Promise(resolve => guarded.sockets.once("listening", resolve))
  const sync = guarded.url
  const kube = connect({ sync, token: "kube_sync_wrong", database: "guarded", tabs: false })
  const handle = kube.repo.create<List>({ items: [] })
  const watch = new Watch(kube, handle)
  await becomes(watch, "denied")
  expect(kube.link?.denied).toBe("this KUBE lets in who has a token")

  kube.useToken(token)
  await becomes(watch, "read-only")
  expect(kube.link?.denied).toBeUndefined()
  expect(kube.link?.refused(handle.documentId)).toBe("only to read")
  expect(guarded.asked[0]).toBe("kube_sync_wrong")
  expect(guarded.asked.at(-1)).toBe(token)

  // The next time it is known already, and a link with another does not take it away.
  const next = connect({ sync, database: "guarded", tabs: false })
  next.offerToken("kube_sync_other")
  await vi.waitFor(() => expect(next.link?.connected).toBe(true), { timeout: 8000 })
  expect(guarded.asked.at(-1)).toBe(token)

  // One that is not good any more is replaced by what a link offers.
  keepToken(sync, "kube_sync_revoked")
  const late = connect({ sync, database: "guarded", tabs: false })
  late.offerToken(token)
  await vi.waitFor(() => expect(late.link?.connected).toBe(true), { timeout: 8000 })
  expect(guarded.asked.slice(-2)).toEqual(["kube_sync_revoked", token])
  watch.end()
  for (const socket of guarded.sockets.clients) socket.terminate()
  guarded.sockets.close()
}, 20_000)
