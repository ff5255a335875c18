import { expect, test } from "vitest"

import { findKube } from "../src/index.ts"

const answering = (body: string, init: ResponseInit = {}): typeof fetch => async () => new Response(body, init)
const origin = "https://tasks.example.org"
const own = "wss://tasks.example.org/.well-known/kube/sync"

test("the KUBE is where its config says", async () => {
  const asked: string[] = []
  const get: typeof fetch = async input => {
    asked.push(String(input))
    return Response.json({ version: 1, sync: "wss://sync.example.org/", later: true })
  }
  expect(await findKube("https://found.example.org", get)).toEqual(["wss://sync.example.org/"])
  expect(asked).toEqual(["https://found.example.org/.well-known/kube/config"])
})

test.each([
  ["there is no config", answering("nothing", { status: 404 })],
  ["every path answers with a page", answering("<!doctype html>")],
  ["the config is of a version that is not known", answering('{"version":2,"sync":"wss://x/"}')],
  ["the address is not a text", answering('{"version":1,"sync":7}')],
  ["the address is not one", answering('{"version":1,"sync":"nowhere"}')],
  ["the address is not encrypted", answering('{"version":1,"sync":"ws://sync.example.org/"}')],
  ["the config is null", answering("null")],
  ["the network is down", (async () => Promise.reject(new TypeError("offline"))) as typeof fetch],
])("the app's own host is the KUBE when %s", async (_, get) => {
  expect(await findKube(origin, get)).toEqual([own])
})

test("a page over plain HTTP, in development, syncs over plain WebSocket", async () => {
  expect(await findKube("http://tasks.localhost:8080", answering("", { status: 404 }))).toEqual([
    "ws://tasks.localhost:8080/.well-known/kube/sync",
  ])
  const local = answering('{"version":1,"sync":"ws://sync.localhost:8080/"}')
  expect(await findKube("http://tasks.localhost:8080", local)).toEqual(["ws://sync.localhost:8080/"])
})

test("other KUBEs that hold the same documents come after the own one, and what is no address is passed over", async () => {
  const others = ["wss://sync.other.example/", 7, "nowhere", "ws://plain.example/", "wss://sync.example.org/", "wss://third.example/"]
  const get = answering(JSON.stringify({ version: 1, sync: "wss://sync.example.org/", others }))
  expect(await findKube("https://lists.example.org", get)).toEqual(["wss://sync.example.org/", "wss://sync.other.example/", "wss://third.example/"])
  const many = Array.from({ length: 100 }, (_, number) => `wss://${number}.example/`)
  const lavish = answering(JSON.stringify({ version: 1, sync: "wss://sync.example.org/", others: many }))
  expect(await findKube("https://lists.example.org", lavish)).toHaveLength(9)
})

test("who finds nobody goes by what it was told the last time", async () => {
  const page = "https://again.example.org"
  const config = { version: 1, sync: "wss://again.example.org/", others: ["wss://sync.other.example/"] }
  const told = await findKube(page, answering(JSON.stringify(config)))
  const offline: typeof fetch = async () => Promise.reject(new TypeError("offline"))
  expect(await findKube(page, offline)).toEqual(told)
  // A server that is there, and says nothing of a KUBE, is believed.
  expect(await findKube(page, answering("nothing", { status: 404 }))).toEqual(["wss://again.example.org/.well-known/kube/sync"])
})
