import { expect, test } from "vitest"

import { cut, type Block } from "../src/blocks.ts"
import type { Item } from "../src/model.ts"

const make = (name: string, count: number): Item[] =>
  Array.from({ length: count }, (_, index) => ({ id: `${name}${index}`, text: "", done: false }))
const keys = (blocks: Block[]) => new Set(blocks.map(({ key }) => key))
const homes = (blocks: Block[]) => new Map(blocks.flatMap(({ key, items }) => items.map(({ id }) => [id, key])))

test("a list is cut into blocks of at most 50, in order", () => {
  const items = make("a", 5000)
  const blocks = cut(items, [])
  expect(blocks.length).toBe(100)
  expect(blocks.every(({ items }) => items.length === 50)).toBe(true)
  expect(blocks.flatMap(({ items }) => items)).toEqual(items)
  expect(cut([], blocks)).toEqual([])
})

test("items added at the end fill the last block, then new ones", () => {
  const first = cut(make("a", 70), [])
  const blocks = cut([...make("a", 70), ...make("b", 100)], first)
  expect(blocks.map(({ items }) => items.length)).toEqual([50, 50, 50, 20])
})

test("a change makes one block anew", () => {
  const items = make("a", 200)
  const first = cut(items, [])
  const marked = items.map((item, index) => (index === 60 ? { ...item, done: true } : item))
  const blocks = cut(marked, first)
  expect(blocks.map((block, index) => block === first[index])).toEqual([true, false, true, true])
  expect(cut(items.slice(), first).every((block, index) => block === first[index])).toBe(true)
})

test("whatever others add and delete, an item stays in its block", () => {
  // A generator of numbers that is the same every time.
  let seed = 7
  const random = (below: number) => (seed = (seed * 48271) % 2147483647) % below
  const items = make("start", 500)
  const gone: Item[] = []
  let blocks = cut(items, [])
  for (let round = 0; round < 200; round++) {
    const before = homes(blocks)
    const at = random(items.length)
    if (round % 3 === 0) items.splice(at, 0, ...make(`round${round}-`, random(80)))
    else if (round % 3 === 1) gone.push(...items.splice(at, random(80)))
    else items.splice(at, 0, ...gone.splice(random(gone.length), random(80)))
    blocks = cut(items, blocks)
    expect(blocks.flatMap(({ items }) => items)).toEqual(items)
    expect(keys(blocks).size).toBe(blocks.length)
    const moved = [...homes(blocks)].filter(([id, key]) => before.has(id) && before.get(id) !== key)
    expect(moved).toEqual([])
  }
})

test("items in another order, and items of the same name, are all there", () => {
  const items = make("a", 200)
  const first = cut(items, [])
  for (const next of [[...items].reverse(), [...items.slice(100), ...items.slice(0, 100)], [...items, ...items]]) {
    const blocks = cut(next, first)
    expect(blocks.flatMap(({ items }) => items)).toEqual(next)
    expect(keys(blocks).size).toBe(blocks.length)
  }
})
