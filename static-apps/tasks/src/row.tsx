import { memo, useLayoutEffect, useRef, useState, type KeyboardEvent } from "react"
import { flushSync } from "react-dom"

import type { Block } from "./blocks.ts"
import { LONGEST, type Item } from "./model.ts"

/** Which items are seen. */
export type Shown = "all" | "open" | "done"

/** What a row can ask for; the same object for the life of a list, so that rows are drawn again only when they change. */
export interface RowActions {
  mark(id: string, done: boolean): void
  remove(id: string): void
  /** An edit begins; the result ends it, with the new text or nothing. */
  edit(item: Item): (text: string | undefined) => void
}

interface RowsProps {
  block: Block
  shown: Shown
  actions: RowActions
  /** Who else is editing which item. */
  editors: ReadonlyMap<string, string>
}

/** The items of a block: out of sight, they cost nothing, and are still found by search and by screen readers. */
export const Rows = memo(function Rows({ block, shown, actions, editors }: RowsProps) {
  const items = block.items.filter(({ done }) => shown === "all" || done === (shown === "done"))
  if (!items.length) return null
  return (
    <div className="block" style={{ containIntrinsicBlockSize: `auto ${items.length * 3}rem` }}>
      {items.map(item => (
        <Row key={item.id} item={item} actions={actions} editor={editors.get(item.id)} />
      ))}
    </div>
  )
})

/** The row after or before another one. */
export function beside(row: Element, isAfter: boolean): Element | undefined {
  const rows = row.closest(".items")!.getElementsByClassName("row")
  return rows[[...rows].indexOf(row) + (isAfter ? 1 : -1)]
}

const Row = memo(function Row({ item, actions, editor }: { item: Item; actions: RowActions; editor: string | undefined }) {
  const [end, setEnd] = useState<(text: string | undefined) => void>()
  const button = useRef<HTMLButtonElement>(null)
  const name = item.text || "empty task"
  const begin = () => {
    const finish = actions.edit(item)
    setEnd(() => (text: string | undefined) => {
      setEnd(undefined)
      finish(text)
    })
  }
  return (
    <div role="listitem" className={item.done ? "row done" : "row"} data-id={item.id}>
      <input
        type="checkbox"
        checked={item.done}
        aria-label={`Done: ${name}`}
        onChange={event => actions.mark(item.id, event.target.checked)}
      />
      {end ? (
        <Edit text={item.text} onEnd={end} back={button} />
      ) : (
        <button ref={button} type="button" className="text" title="Edit" onClick={begin}>
          {item.text || " "}
        </button>
      )}
      {editor && <span className="editor">{editor} is editing</span>}
      <button type="button" className="remove" aria-label={`Delete ${name}`} onClick={() => actions.remove(item.id)}>
        <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">
          <path d="m3.5 3.5 9 9m0-9-9 9" />
        </svg>
      </button>
    </div>
  )
})

interface EditProps {
  text: string
  onEnd: (text: string | undefined) => void
  back: React.RefObject<HTMLButtonElement | null>
}

function Edit({ text, onEnd, back }: EditProps) {
  const field = useRef<HTMLTextAreaElement>(null)
  const isEnded = useRef(false)
  const end = (text: string | undefined, isKey: boolean) => {
    if (isEnded.current) return
    isEnded.current = true
    if (!isKey) return onEnd(text)
    // Drawn before the next key is pressed, which may move the focus elsewhere.
    flushSync(() => onEnd(text))
    back.current?.focus()
  }
  const fit = () => {
    const { current } = field
    if (!current) return
    current.style.height = "auto"
    current.style.height = `${current.scrollHeight}px`
  }
  useLayoutEffect(() => {
    const { current } = field
    current?.focus()
    current?.setSelectionRange(text.length, text.length)
    fit()
    // What is in the field when the page goes is not lost.
    const leave = () => current && end(current.value, false)
    addEventListener("pagehide", leave)
    return () => removeEventListener("pagehide", leave)
  }, [])
  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    if (event.nativeEvent.isComposing) return
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault()
      end(event.currentTarget.value, true)
    } else if (event.key === "Escape") end(undefined, true)
    event.stopPropagation()
  }
  return (
    <textarea
      ref={field}
      rows={1}
      maxLength={LONGEST}
      defaultValue={text}
      aria-label="Edit task. Enter saves, Escape cancels."
      onInput={fit}
      onKeyDown={onKeyDown}
      onBlur={event => end(event.currentTarget.value, false)}
    />
  )
}
