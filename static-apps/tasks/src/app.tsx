import type { AutomergeUrl } from "@automerge/automerge-repo/slim"
import { readShareLink, type Kube } from "@kube/kit"
import { useEffect, useRef, useState, useSyncExternalStore } from "react"

import { onAnnounce } from "./announce.ts"
import { Home } from "./home.tsx"
import { Opening } from "./opening.tsx"
import { takeUpdate, updates } from "./update.ts"

/** The whole app: the address says which list is open. */
export function App({ kube }: { kube: Kube }) {
  const url = useSyncExternalStore(onHash, readShareLink)
  const main = useRef<HTMLDivElement>(null)
  const isFirst = useRef(true)
  useEffect(() => {
    // A new page, for those who do not see it.
    if (!isFirst.current) main.current?.focus()
    isFirst.current = false
    if (!url) document.title = "Tasks"
  }, [url])
  return (
    <>
      <div ref={main} tabIndex={-1} className="page">
        {url ? <Opening key={url} kube={kube} url={url} /> : <Home onNew={() => create(kube)} />}
      </div>
      <Update kube={kube} />
      <Live />
    </>
  )
}

function onHash(listener: () => void): () => void {
  addEventListener("hashchange", listener)
  return () => removeEventListener("hashchange", listener)
}

function create(kube: Kube): AutomergeUrl {
  const { url } = kube.repo.create({ title: "New list", items: [] })
  location.hash = url
  return url
}

/** The mark, which leads home. */
export function Mark() {
  return (
    <a className="mark" href="#" aria-label="Tasks: all lists">
      <svg viewBox="0 0 32 32" width="28" height="28" aria-hidden="true" focusable="false">
        <path d="M16 2.5 28 9.3v13.4L16 29.5 4 22.7V9.3z" />
        <path d="m10.5 16 4 4 7.5-8" />
      </svg>
      <span>TASKS</span>
    </a>
  )
}

function Update({ kube }: { kube: Kube }) {
  const isOffered = useSyncExternalStore(updates.subscribe, () => updates.current)
  const [isLater, setLater] = useState(false)
  return (
    <div role="status" className="update" hidden={!isOffered || isLater}>
      {isOffered && !isLater && (
        <>
          <p>A new version is ready.</p>
          <button type="button" className="strong" onClick={() => void takeUpdate(() => kube.repo.flush())}>
            Update now
          </button>
          <button type="button" onClick={() => setLater(true)}>
            Later
          </button>
        </>
      )}
    </div>
  )
}

function Live() {
  const [text, setText] = useState("")
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>
    onAnnounce(next => {
      setText(next)
      clearTimeout(timer)
      timer = setTimeout(() => setText(""), 4000)
    })
  }, [])
  return (
    <p role="status" className={text ? "live shown" : "live"}>
      {text}
    </p>
  )
}
