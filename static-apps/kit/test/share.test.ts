import { generateAutomergeUrl } from "@automerge/automerge-repo"
import { expect, test } from "vitest"

import { readShareLink, shareLink } from "../src/index.ts"

test("a share link leads back to its document", () => {
  const document = generateAutomergeUrl()
  const link = shareLink(document, "https://tasks.example.org/some/page?x=1#old")
  expect(link).toBe(`https://tasks.example.org/some/page?x=1#${document}`)
  expect(readShareLink(link)).toBe(document)
  expect(readShareLink(`#${document}`)).toBe(document)
  expect(readShareLink(`  ${document}\n`)).toBe(document)
  expect(readShareLink(`#${encodeURIComponent(document)}`)).toBe(document)
})

test.each(["", "#", "#about", "https://tasks.example.org/", "#automerge:", "#automerge:notbase58!", "#%E0%A4%A"])(
  "%j names no document",
  text => expect(readShareLink(text)).toBeUndefined(),
)
