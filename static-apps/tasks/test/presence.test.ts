import { expect, test } from "vitest"

import { GONE, Presence, readHello, type Hello } from "../src/presence.ts"

const hello = (tab: string, person: string, more: Partial<Hello> = {}): Hello => ({ kube: "here", tab, person, name: person, ...more })

test("a person in several tabs is one person, and oneself is nobody else", () => {
  const presence = new Presence("me")
  expect(presence.hear(hello("1", "ben"), 0)).toBe(true)
  expect(presence.hear(hello("1", "ben"), 1)).toBe(false)
  presence.hear(hello("2", "ben", { editing: "item" }), 0)
  presence.hear(hello("3", "me"), 0)
  presence.hear(hello("4", "ada"), 0)
  expect(presence.others(1)).toEqual([
    { person: "ada", name: "ada", editing: undefined },
    { person: "ben", name: "ben", editing: "item" },
  ])
})

test("who says goodbye or falls silent is gone", () => {
  const presence = new Presence("me")
  presence.hear(hello("1", "ben"), 0)
  presence.hear(hello("2", "ada"), 1000)
  presence.hear(hello("2", "ada", { bye: true }), 1001)
  expect(presence.others(GONE).map(({ person }) => person)).toEqual(["ben"])
  expect(presence.others(GONE + 1)).toEqual([])
})

test("a crowd is bounded", () => {
  const presence = new Presence("me")
  for (let tab = 0; tab < 1000; tab++) presence.hear(hello(`${tab}`, `${tab}`), 0)
  expect(presence.others(0)).toHaveLength(50)
})

test.each([undefined, null, 7, "here", {}, [], { kube: "here" }, { kube: "there", tab: "1", person: "p", name: "n" }, { kube: "here", tab: "", person: "p", name: "n" }, { kube: "here", tab: "x".repeat(65), person: "p", name: "n" }, { kube: "here", tab: "1", person: "p", name: 3 }])(
  "%j is no greeting",
  message => expect(readHello(message)).toBeUndefined(),
)

test("a name is short, and never nothing", () => {
  expect(readHello(hello("1", "p", { name: "  " }))?.name).toBe("Someone")
  expect(readHello(hello("1", "p", { name: "x".repeat(100) }))?.name).toHaveLength(40)
  expect(readHello({ ...hello("1", "p"), editing: 4, bye: "yes" })).toEqual(hello("1", "p"))
})
