import { expect, test } from "vitest"

import { judge, sentence, type Facts, type Status } from "../src/index.ts"

const facts = (some: Partial<Facts>): Facts => ({ link: "connected", device: "kept", ours: ["b", "a"], theirs: ["a", "b"], isReadOnly: false, ...some })

test.each<[Status, Partial<Facts>]>([
  ["saved", {}],
  ["saved", { device: "writing" }],
  ["saved", { device: "refused" }],
  ["saving", { theirs: undefined }],
  ["saving", { theirs: [] }],
  ["saving", { theirs: ["a"] }],
  ["saving", { theirs: ["a", "c"] }],
  ["saving", { ours: [], theirs: [] }],
  ["connecting", { link: "trying", theirs: undefined }],
  ["offline-saved", { link: "offline" }],
  ["offline-kept", { link: "offline", theirs: ["a"] }],
  ["offline-kept", { link: "offline", theirs: undefined }],
  ["offline-writing", { link: "offline", theirs: undefined, device: "writing" }],
  ["denied", { link: "denied", theirs: undefined }],
  ["denied", { link: "denied" }],
  ["read-only", { theirs: ["a"], isReadOnly: true }],
  ["saved", { isReadOnly: true }],
  ["refused", { link: "denied", theirs: undefined, device: "refused" }],
  ["refused", { link: "offline", theirs: undefined, device: "refused" }],
  ["refused", { theirs: ["a"], device: "refused" }],
])("%s is what %j allow to claim", (status, some) => {
  expect(judge(facts(some))).toBe(status)
  expect(sentence(status)).not.toBe("")
})
