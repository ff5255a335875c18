import { generateAutomergeUrl } from "@automerge/automerge-repo"
import { expect, test } from "vitest"

import { readShareLink, readToken, withoutToken } from "../src/index.ts"
import { keepToken, tokenFor, withToken } from "../src/token.ts"

const token = `kube_sync_${"aB3-_".repeat(8)}xyz`
const page = "https://tasks.example.org/?x=1"

test("a link brings a document and a token, or one of them", () => {
  const document = generateAutomergeUrl()
  for (const link of [`${page}#${document}&token=${token}`, `${page}#${encodeURIComponent(`${document}&token=${token}`)}`]) {
    expect(readShareLink(link)).toBe(document)
    expect(readToken(link)).toBe(token)
    expect(withoutToken(link)).toBe(`${page}#${document}`)
  }
  expect(readToken(`#token=${token}`)).toBe(token)
  expect(readShareLink(`#token=${token}`)).toBeUndefined()
  expect(withoutToken(`${page}#token=${token}`)).toBe(page)
  expect(withoutToken(`${page}#${document}`)).toBe(`${page}#${document}`)
})

test("a person may paste a token alone", () => expect(readToken(`  ${token}\n`)).toBe(token))

test.each(["", "#", "#about", "#token=", "#token=a b", "token=", "https://tasks.example.org/", "#%E0%A4%A", `#token=${"a".repeat(201)}`, "<b>"])(
  "%j has no token",
  text => expect(readToken(text)).toBeUndefined(),
)

test("a token is kept for one KUBE, and goes into the address of no other", () => {
  const sync = "wss://sync.example.org/"
  expect(withToken(sync, tokenFor(sync))).toBe(sync)
  keepToken(sync, token)
  expect(tokenFor("wss://sync.example.org/other/path")).toBe(token)
  expect(tokenFor("wss://sync.elsewhere.example/")).toBeUndefined()
  expect(withToken(sync, tokenFor(sync))).toBe(`${sync}?token=${token}`)
  expect(withToken(`${sync}?token=old`, token)).toBe(`${sync}?token=${token}`)
})
