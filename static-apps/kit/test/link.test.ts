import "fake-indexeddb/auto"
import { afterEach, expect, test, vi } from "vitest"

import { connect, Watch } from "../src/index.ts"
import { tokenFor } from "../src/token.ts"
import { Guarded, SlowPeer } from "./peers.ts"

interface List {
  items: string[]
}

const NOBODY = "ws://127.0.0.1:9/"
const peers: SlowPeer[] = []
afterEach(() => Promise.all(peers.splice(0).map(peer => peer.stop())))

async function start(port = 0): Promise<SlowPeer> {
  const peer = new SlowPeer(port)
  peers.push(peer)
  await new Promise(resolve => peer.sockets.once("listening", resolve))
  return peer
}

const until = (done: () => void) => vi.waitFor(done, { timeout: 15_000, interval: 5 })

test("whichever of two KUBEs dies, the other takes its place", async () => {
  const [one, other] = [await start(), await start()]
  const { port } = one
  const kube = connect({ sync: [one.url, other.url], database: "two", tabs: false })
  const handle = kube.repo.create<List>({ items: [] })
  const watch = new Watch(kube, handle)
  const savedAt = (peer: SlowPeer) =>
    until(() => {
      expect(kube.link?.sync).toBe(peer.url)
      expect(watch.current).toBe("saved")
      expect(peer.repo.handles[handle.documentId]?.doc()).toEqual(handle.doc())
    })
  await savedAt(one)

  await one.stop()
  handle.change(list => void list.items.push("while one is away"))
  await savedAt(other)

  // It stays there, and comes back when that dies.
  const again = await start(port)
  handle.change(list => void list.items.push("still with the other"))
  await savedAt(other)
  await other.stop()
  await savedAt(again)
  watch.end()
}, 40_000)

test("a KUBE that is away when the page opens costs no more than a moment", async () => {
  const other = await start()
  const kube = connect({ sync: [NOBODY, other.url], database: "away", tabs: false })
  await until(() => expect(kube.link?.connected).toBe(true))
  expect(kube.link?.sync).toBe(other.url)
})

test("a KUBE that does not let this device in does not keep it from another, and a token is for the one that asked", async () => {
  const guarded = new Guarded("kube_sync_right")
  await new Promise(resolve => guarded.sockets.once("listening", resolve))
  const open = await start()
  const { url } = open
  const kube = connect({ sync: [guarded.url, url], database: "denied", tabs: false })
  await until(() => expect(kube.link?.connected).toBe(true))
  expect(kube.link?.sync).toBe(url)

  await open.stop()
  await until(() => expect(kube.link?.denied).toBe("this KUBE lets in who has a token"))
  kube.useToken("kube_sync_right")
  await until(() => expect(kube.link?.connected).toBe(true))
  expect(kube.link?.sync).toBe(guarded.url)
  expect(tokenFor(url)).toBeUndefined()
  for (const socket of guarded.sockets.clients) socket.terminate()
  guarded.sockets.close()
}, 40_000)
