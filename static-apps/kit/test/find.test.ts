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
  expect(await findKube(origin, get)).toBe("wss://sync.example.org/")
  expect(asked).toEqual(["https://tasks.example.org/.well-known/kube/config"])
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
  expect(await findKube(origin, get)).toBe(own)
})

test("a page over plain HTTP, in development, syncs over plain WebSocket", async () => {
  expect(await findKube("http://tasks.localhost:8080", answering("", { status: 404 }))).toBe(
    "ws://tasks.localhost:8080/.well-known/kube/sync",
  )
  const local = answering('{"version":1,"sync":"ws://sync.localhost:8080/"}')
  expect(await findKube("http://tasks.localhost:8080", local)).toBe("ws://sync.localhost:8080/")
})
