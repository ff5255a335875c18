import * as A from "@automerge/automerge"
import { expect, test } from "vitest"

import { History } from "../src/history.ts"
import { describe, isList, newItem, take, type List, type Step } from "../src/model.ts"

class Page {
  doc: A.Doc<List>
  history = new History()

  constructor(...texts: string[]) {
    this.doc = A.from<{ title: string; items: List["items"] } & Record<string, unknown>>({
      title: "List",
      items: texts.map(text => ({ id: text, text, done: false })),
    }) as A.Doc<List>
  }

  take = (step: Step): Step | undefined => {
    let back: Step | undefined
    const before = this.doc
    this.doc = A.change(before, list => {
      back = take(before, list, step)
    })
    return back
  }

  does(step: Step): boolean {
    return this.history.does(step, this.take)
  }

  get texts(): string {
    return this.doc.items.map(({ text, done }) => (done ? `[${text}]` : text)).join(" ")
  }

  undo = () => this.history.undo(this.take)
  redo = () => this.history.redo(this.take)
}

const item = (text: string) => ({ id: text, text, done: false })

test("every step can be undone and done again", () => {
  const page = new Page("a", "b", "c", "d", "e")
  const steps: [Step, string][] = [
    [{ does: "insert", at: [{ item: item("x"), after: "e" }, { item: item("y"), after: "x" }] }, "a b c d e x y"],
    [{ does: "insert", at: [{ item: item("z"), after: undefined }] }, "z a b c d e x y"],
    [{ does: "mark", ids: ["a", "c"], done: true }, "z [a] b [c] d e x y"],
    [{ does: "text", id: "b", from: "b", to: "bee" }, "z [a] bee [c] d e x y"],
    [{ does: "remove", ids: ["z", "a", "c", "d", "y"] }, "bee e x"],
    [{ does: "title", from: "List", to: "Other" }, "bee e x"],
  ]
  const seen = [page.texts]
  for (const [step, texts] of steps) {
    expect(page.does(step)).toBe(true)
    expect(page.texts).toBe(texts)
    expect(describe(step)).not.toBe("")
    seen.push(texts)
  }
  expect(page.doc.title).toBe("Other")
  for (const texts of seen.slice(0, -1).reverse()) {
    expect(page.undo()).toBeDefined()
    expect(page.texts).toBe(texts)
  }
  expect(page.undo()).toBeUndefined()
  expect(page.doc.title).toBe("List")
  for (const texts of seen.slice(1)) {
    expect(page.redo()).toBeDefined()
    expect(page.texts).toBe(texts)
  }
  expect(page.redo()).toBeUndefined()
})

test("undo leaves what others did, and skips what has lost its meaning", () => {
  const page = new Page("a", "b", "c")
  page.does({ does: "mark", ids: ["a"], done: true })
  page.does({ does: "text", id: "b", from: "b", to: "mine" })
  page.does({ does: "remove", ids: ["c"] })
  // Others rewrite b, and delete its neighbour.
  page.take({ does: "text", id: "b", from: "mine", to: "theirs" })
  page.take({ does: "insert", at: [{ item: item("new"), after: "b" }] })
  page.undo()
  expect(page.texts).toBe("[a] theirs c new")
  page.undo()
  expect(page.texts).toBe("a theirs c new")
  expect(page.history.canUndo).toBe(false)
})

test("what was deleted comes back at the end when its neighbour is gone", () => {
  const page = new Page("a", "b", "c", "d")
  page.does({ does: "remove", ids: ["b", "c"] })
  page.take({ does: "remove", ids: ["a"] })
  page.undo()
  expect(page.texts).toBe("d b c")
})

test("nothing is inserted twice, and a step without a meaning is no step", () => {
  const page = new Page("a")
  expect(page.does({ does: "insert", at: [{ item: item("a"), after: undefined }] })).toBe(false)
  expect(page.does({ does: "remove", ids: ["gone"] })).toBe(false)
  expect(page.does({ does: "mark", ids: ["a"], done: false })).toBe(false)
  expect(page.does({ does: "text", id: "gone", from: "x", to: "y" })).toBe(false)
  expect(page.does({ does: "title", from: "not this", to: "y" })).toBe(false)
  expect(page.history.canUndo).toBe(false)
})

test("edits of one text at the same time keep both", () => {
  const page = new Page("Book the train")
  let other = A.clone(page.doc)
  page.does({ does: "text", id: "Book the train", from: "Book the train", to: "Book the night train" })
  other = A.change(other, list => {
    take(other, list, { does: "text", id: "Book the train", from: "Book the train", to: "Book the train to Ghent" })
  })
  page.doc = A.merge(page.doc, other)
  expect(page.texts).toBe("Book the night train to Ghent")
})

test("only a list is a list", () => {
  expect(isList({ title: "x", items: [newItem("a")] })).toBe(true)
  for (const other of [undefined, null, {}, { title: "x" }, { title: "x", items: {} }, { title: "x", items: [{ id: "a" }] }, { title: 1, items: [] }])
    expect(isList(other)).toBe(false)
})

test("only so many steps are remembered", () => {
  const page = new Page("a")
  for (let index = 0; index < 300; index++) page.does({ does: "mark", ids: ["a"], done: index % 2 === 0 })
  let undone = 0
  while (page.undo()) undone++
  expect(undone).toBe(200)
})
