import { useDocument } from "@automerge/automerge-repo-react-hooks"
import type { DocHandle } from "@automerge/automerge-repo/slim"
import { sentence, shareLink, Watch, type Kube, type Status } from "@kube/kit"
import { useEffect, useMemo, useRef, useState, useSyncExternalStore, type ClipboardEvent, type FormEvent } from "react"

import { Access } from "./access.tsx"
import { announce } from "./announce.ts"
import { cut, type Block } from "./blocks.ts"
import { draft, name as myName, remember, setName } from "./device.ts"
import { Mark } from "./mark.tsx"
import { isList, LONGEST, newItem, type List } from "./model.ts"
import { Pen } from "./pen.ts"
import type { Person } from "./presence.ts"
import { beside, Rows, type RowActions, type Shown } from "./row.tsx"
import { usePresence } from "./use-presence.ts"

/** A list that is open. */
export function ListPage({ kube, handle }: { kube: Kube; handle: DocHandle<List> }) {
  const [doc] = useDocument<List>(handle.url, { suspense: false })
  const list = doc ?? handle.doc()
  if (isList(list)) return <Page kube={kube} handle={handle} list={list} />
  return <NoList />
}

/** What a link to something else gets. */
export function NoList() {
  return (
    <>
      <header className="top">
        <Mark />
      </header>
      <main id="main">
        <h1>This link does not lead to a list.</h1>
      </main>
    </>
  )
}

function Page({ kube, handle, list }: { kube: Kube; handle: DocHandle<List>; list: List }) {
  const [name, setMyName] = useState(myName)
  const [shown, setShown] = useState<Shown>("all")
  const [others, say] = usePresence(handle, name)
  const pen = useMemo(() => new Pen(handle), [handle])
  const { canUndo, canRedo } = pen
  const field = useRef<HTMLInputElement>(null)

  const { title } = list
  useEffect(() => {
    document.title = `${title || "Untitled"} · Tasks`
    remember({ url: handle.url, title })
  }, [handle, title])
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent) => shortcut(event, pen, field.current)
    addEventListener("keydown", onKeyDown)
    return () => removeEventListener("keydown", onKeyDown)
  }, [pen])

  const actions = useMemo<RowActions>(
    () => ({
      mark: (id, done) => pen.does({ does: "mark", ids: [id], done }),
      remove(id) {
        focusBeside(id, field.current)
        pen.does({ does: "remove", ids: [id] })
        announce("Deleted. Ctrl+Z brings it back.")
      },
      edit(item) {
        say(item.id)
        const end = pen.edit(item)
        return text => {
          say(undefined)
          end(text)
        }
      },
    }),
    [pen, say],
  )
  const editors = useMemo(
    () => new Map(others.flatMap(({ editing, name }) => (editing ? [[editing, name] as const] : []))),
    [others],
  )
  const { items } = list
  const last = useRef<Block[]>([])
  const blocks = useMemo(() => (last.current = cut(items, last.current)), [items])
  const done = items.filter(item => item.done)
  const open = items.length - done.length
  const count = { all: items.length, open, done: done.length }[shown]

  return (
    <>
      <header className="top">
        <Mark />
        <SavedOrNot kube={kube} handle={handle} />
      </header>
      <main id="main">
        <Title title={title} pen={pen} />
        <div className="people">
          <Here others={others} name={name} onName={next => (setName(next), setMyName(next.trim().slice(0, 40)))} />
          <Share url={shareLink(handle.url)} title={title} />
        </div>
        <NewItem pen={pen} url={handle.url} last={items.at(-1)?.id} field={field} />
        <div className="tools" role="group" aria-label="This list">
          <p className="count">
            {open === 1 ? "1 task" : `${open.toLocaleString()} tasks`} to do
          </p>
          {done.length > 0 && (
            <button
              type="button"
              onClick={() => {
                pen.does({ does: "remove", ids: done.map(({ id }) => id) })
                announce(`Deleted ${done.length} done. Ctrl+Z brings them back.`)
              }}
            >
              Clear done
            </button>
          )}
          <div role="group" aria-label="Show" className="shown">
            {(["all", "open", "done"] as const).map(one => (
              <button key={one} type="button" aria-pressed={one === shown} onClick={() => setShown(one)}>
                {one === "all" ? "All" : one === "open" ? "To do" : "Done"}
              </button>
            ))}
          </div>
          <button type="button" disabled={!canUndo} title="Ctrl+Z" onClick={() => pen.undo()}>
            Undo
          </button>
          <button type="button" disabled={!canRedo} title="Ctrl+Shift+Z" onClick={() => pen.redo()}>
            Redo
          </button>
        </div>
        {count > 0 ? (
          <div role="list" className="items" aria-label={title || "Tasks"} onKeyDown={move}>
            {blocks.map(block => (
              <Rows key={block.key} block={block} shown={shown} actions={actions} editors={editors} />
            ))}
          </div>
        ) : (
          <p className="quiet empty">{items.length ? "Nothing here." : "Nothing to do yet."}</p>
        )}
      </main>
      <footer>
        <p>
          <kbd>N</kbd> new task · <kbd>↑</kbd> <kbd>↓</kbd> move · <kbd>Enter</kbd> edit · <kbd>Delete</kbd> delete ·{" "}
          <kbd>Ctrl</kbd> <kbd>Z</kbd> undo
        </p>
      </footer>
    </>
  )
}

function shortcut(event: KeyboardEvent, pen: Pen, field: HTMLInputElement | null): void {
  const target = event.target as HTMLElement
  const isTyping = target.matches("textarea, input:not([type=checkbox])")
  const key = event.key.toLowerCase()
  if ((event.ctrlKey || event.metaKey) && !event.altKey && (key === "z" || key === "y")) {
    // In a field that holds text, undo belongs to the text.
    if (isTyping && (target as HTMLInputElement).value !== "") return
    event.preventDefault()
    if (key === "y" || event.shiftKey) pen.redo()
    else pen.undo()
  } else if (key === "n" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault()
    field?.focus()
  }
}

/** The keyboard in the rows. */
function move(event: React.KeyboardEvent): void {
  const target = event.target as HTMLElement
  const row = target.closest(".row")
  if (!row || target.matches("textarea")) return
  const kind = target.matches("input") ? "input" : target.matches(".remove") ? ".remove" : ".text"
  const to = event.key === "ArrowDown" || event.key === "ArrowUp" ? beside(row, event.key === "ArrowDown") : undefined
  if (to) {
    event.preventDefault()
    to.querySelector<HTMLElement>(kind)?.focus()
  } else if (event.key === "Delete") {
    event.preventDefault()
    row.querySelector<HTMLElement>(".remove")?.click()
  } else if (event.key === "Enter" && kind === "input") {
    event.preventDefault()
    row.querySelector<HTMLElement>(".text")?.click()
  }
}

/** Before a row with the focus goes: the focus goes to the next, the one before, or the field. */
function focusBeside(id: string, field: HTMLElement | null): void {
  const row = document.activeElement?.closest<HTMLElement>(".row")
  if (row?.dataset["id"] !== id) return
  const next = beside(row, true) ?? beside(row, false)
  ;(next?.querySelector("input") ?? field)?.focus()
}

function SavedOrNot({ kube, handle }: { kube: Kube; handle: DocHandle<List> }) {
  const [watch, setWatch] = useState<Watch>()
  useEffect(() => {
    const watch = new Watch(kube, handle)
    setWatch(watch)
    // Leaving now could lose something.
    const warn = (event: BeforeUnloadEvent) => {
      if (watch.current === "refused" || watch.current === "offline-writing") event.preventDefault()
    }
    addEventListener("beforeunload", warn)
    return () => {
      removeEventListener("beforeunload", warn)
      watch.end()
    }
  }, [kube, handle])
  const status = useSyncExternalStore<Status>(watch?.subscribe ?? never, () => watch?.current ?? "connecting")
  const isRefused = status === "refused" || status === "denied" || status === "read-only"
  const grave = status.startsWith("offline") ? "offline" : isRefused ? status : "online"
  const before = useRef(grave)
  useEffect(() => {
    if (grave !== before.current) announce(grave === "online" ? "Back online." : sentence(status))
    before.current = grave
  }, [grave])
  return (
    <>
      <p className="status" data-status={status}>
        <span aria-hidden="true" className="dot" />
        {sentence(status)}
      </p>
      <Access kube={kube} />
    </>
  )
}

const never = () => () => {}

function Title({ title, pen }: { title: string; pen: Pen }) {
  const field = useRef<HTMLTextAreaElement>(null)
  const begun = useRef(title)
  // Others may rename it, but not under the fingers of who is typing.
  useEffect(() => {
    const { current } = field
    if (!current) return
    if (document.activeElement !== current) current.value = title
    fit(current)
  }, [title])
  return (
    <h1 className="title">
      <textarea
        ref={field}
        rows={1}
        maxLength={200}
        defaultValue={title}
        aria-label="Name of the list"
        onFocus={() => (begun.current = title)}
        onInput={event => fit(event.currentTarget)}
        onKeyDown={event => {
          if (event.key === "Escape") event.currentTarget.value = begun.current
          if (event.key === "Enter" || event.key === "Escape") event.currentTarget.blur()
        }}
        onBlur={event => {
          const to = event.currentTarget.value.replace(/\s+/g, " ").trim()
          event.currentTarget.value = to === begun.current ? title : to
          if (to !== begun.current) pen.does({ does: "title", from: title, to })
        }}
      />
    </h1>
  )
}

function fit(field: HTMLTextAreaElement): void {
  field.style.height = "auto"
  field.style.height = `${field.scrollHeight}px`
}

interface NewItemProps {
  pen: Pen
  url: string
  last: string | undefined
  field: React.RefObject<HTMLInputElement | null>
}

function NewItem({ pen, url, last, field }: NewItemProps) {
  const add = (lines: string[]) => {
    const items = lines.map(line => line.trim()).filter(Boolean).map(newItem)
    const at = items.map((item, index) => ({ item, after: items[index - 1]?.id ?? last }))
    if (at.length) pen.does({ does: "insert", at })
    if (at.length > 1) announce(`Added ${at.length.toLocaleString()} tasks.`)
  }
  const onSubmit = (event: FormEvent) => {
    event.preventDefault()
    const { current } = field
    if (!current?.value.trim()) return
    add([current.value])
    current.value = ""
    draft.set(url, "")
  }
  const onPaste = (event: ClipboardEvent) => {
    const lines = event.clipboardData.getData("text/plain").split(/\r?\n/).filter(line => line.trim())
    if (lines.length < 2) return
    event.preventDefault()
    add(lines)
  }
  return (
    <form className="new" onSubmit={onSubmit}>
      <input
        ref={field}
        type="text"
        enterKeyHint="done"
        autoComplete="off"
        maxLength={LONGEST}
        defaultValue={draft.get(url)}
        placeholder="What needs doing?"
        aria-label="New task"
        onInput={event => draft.set(url, event.currentTarget.value)}
        onPaste={onPaste}
      />
      <button type="submit" className="strong">
        Add
      </button>
    </form>
  )
}

function Here({ others, name, onName }: { others: Person[]; name: string; onName: (name: string) => void }) {
  return (
    <div className="here">
      <label>
        <span>You are</span>
        <input
          type="text"
          defaultValue={name}
          maxLength={40}
          autoComplete="nickname"
          placeholder="someone"
          onBlur={event => onName(event.currentTarget.value)}
          onKeyDown={event => event.key === "Enter" && event.currentTarget.blur()}
        />
      </label>
      {others.length > 0 && (
        <p className="others">
          <span>Here too:</span>
          {others.map(({ person, name }) => (
            <span key={person} className="person">
              {name}
            </span>
          ))}
        </p>
      )}
    </div>
  )
}

function Share({ url, title }: { url: string; title: string }) {
  const [isShown, setShown] = useState(false)
  const share = async () => {
    try {
      if (navigator.share && matchMedia("(pointer: coarse)").matches) await navigator.share({ title, url })
      else {
        await navigator.clipboard.writeText(url)
        announce("The link is copied: whoever has it has the list.")
      }
    } catch (error) {
      // A person who closes the share sheet wants nothing more; a browser that refuses needs another way.
      if ((error as DOMException).name !== "AbortError") setShown(true)
    }
  }
  return (
    <div className="share">
      <button type="button" onClick={() => void share()}>
        Share
      </button>
      {isShown && (
        <input type="text" readOnly value={url} aria-label="Link to this list" onFocus={event => event.currentTarget.select()} />
      )}
    </div>
  )
}
