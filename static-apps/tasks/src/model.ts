/** Pure: lists, and steps that change them and know their way back. */
import { updateText } from "@automerge/automerge/slim"

/** One thing to do. */
export interface Item {
  id: string
  text: string
  done: boolean
}

/** A document: a list. */
export interface List {
  title: string
  items: Item[]
}

/** A change by a person. Items are named by id, so a step still means the same after others have changed the list. */
export type Step =
  | { does: "insert"; at: { item: Item; after: string | undefined }[] }
  | { does: "remove"; ids: string[] }
  | { does: "mark"; ids: string[]; done: boolean }
  | { does: "text"; id: string; from: string; to: string }
  | { does: "title"; from: string; to: string }

/** The longest text of an item or a title, in UTF-16 units. */
export const LONGEST = 2000

/** Returns an item that nobody else has made. Its id is 72 random bits, and short, because Automerge keeps each character. */
export function newItem(text: string): Item {
  const id = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(9))))
  return { id, text: text.slice(0, LONGEST), done: false }
}

/** Whether a document is a list at all: a link may name anything. */
export function isList(doc: unknown): doc is List {
  const list = doc as Partial<List> | undefined
  return typeof list?.title === "string" && Array.isArray(list.items) && list.items.every(isItem)
}

function isItem(item: unknown): boolean {
  const { id, text, done } = (item ?? {}) as Partial<Item>
  return typeof id === "string" && typeof text === "string" && typeof done === "boolean"
}

/**
 * Takes a step in a list that is being changed, and returns the step back. `before` is the list as it was: searching a plain
 * one is many times faster than searching one that is being changed.
 *
 * Returns nothing, and changes nothing, when the step has lost its meaning: the item is gone, or someone else has rewritten the
 * text since.
 */
export function take(before: List, list: List, step: Step): Step | undefined {
  switch (step.does) {
    case "insert": {
      const known = new Map(before.items.map(({ id }, index) => [id, index]))
      const fresh = step.at.filter(({ item }) => !known.has(item.id))
      const runsBefore: { index: number; count: number }[] = []
      for (const run of runs(fresh)) {
        const after = run.after === undefined ? -1 : (known.get(run.after) ?? Infinity)
        // When the neighbour is gone: at the end nothing is overlooked.
        const index = Math.min(after + 1, before.items.length)
        const behind = runsBefore.reduce((sum, one) => (one.index <= index ? sum + one.count : sum), 0)
        runsBefore.push({ index, count: run.items.length })
        list.items.splice(index + behind, 0, ...run.items.map(item => ({ ...item })))
      }
      return fresh.length ? { does: "remove", ids: fresh.map(({ item }) => item.id) } : undefined
    }
    case "remove": {
      const ids = new Set(step.ids)
      const at = before.items.flatMap((item, index) =>
        ids.has(item.id) ? [{ item: { ...item }, after: before.items[index - 1]?.id }] : [],
      )
      for (let index = before.items.length - 1; index >= 0; index--)
        if (ids.has(before.items[index]!.id)) list.items.splice(index, 1)
      return at.length ? { does: "insert", at } : undefined
    }
    case "mark": {
      const ids = new Set(step.ids)
      const marked: string[] = []
      before.items.forEach((item, index) => {
        if (!ids.has(item.id) || item.done === step.done) return
        list.items[index]!.done = step.done
        marked.push(item.id)
      })
      return marked.length ? { does: "mark", ids: marked, done: !step.done } : undefined
    }
    case "text": {
      const index = before.items.findIndex(item => item.id === step.id)
      if (before.items[index]?.text !== step.from || step.from === step.to) return undefined
      updateText(list, ["items", index, "text"], step.to)
      return { ...step, from: step.to, to: step.from }
    }
    case "title": {
      if (before.title !== step.from || step.from === step.to) return undefined
      updateText(list, ["title"], step.to)
      return { ...step, from: step.to, to: step.from }
    }
  }
}

/** Items that follow each other, together: a thousand pasted lines are one splice. */
function runs(at: { item: Item; after: string | undefined }[]): { after: string | undefined; items: Item[] }[] {
  const found: { after: string | undefined; items: Item[] }[] = []
  for (const { item, after } of at) {
    const last = found.at(-1)
    if (last && after === last.items.at(-1)?.id) last.items.push(item)
    else found.push({ after, items: [item] })
  }
  return found
}

/** What happened, in words. */
export function describe(step: Step): string {
  switch (step.does) {
    case "insert":
      return step.at.length === 1 ? `Added “${step.at[0]!.item.text}”` : `Added ${step.at.length} tasks`
    case "remove":
      return step.ids.length === 1 ? "Deleted a task" : `Deleted ${step.ids.length} tasks`
    case "mark":
      return `${step.ids.length === 1 ? "A task is" : `${step.ids.length} tasks are`} ${step.done ? "done" : "to do again"}`
    case "text":
      return `Changed to “${step.to}”`
    case "title":
      return `The list is called “${step.to}”`
  }
}
