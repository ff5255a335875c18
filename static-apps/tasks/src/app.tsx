import { lazy, Suspense, useEffect, useRef, useState, useSyncExternalStore } from "react"

import { announce, onAnnounce } from "./announce.ts"
import { Boundary } from "./boundary.tsx"
import { Home } from "./home.tsx"
import { load, loaded } from "./load.ts"
import { Mark } from "./mark.tsx"
import { takeUpdate, updates } from "./update.ts"

const Shared = lazy(async () => ({ default: (await load()).Shared }))

/** The whole app: the address says which list is open. */
export function App() {
  const hash = useSyncExternalStore(onHash, () => location.hash.slice(1))
  const page = useRef<HTMLDivElement>(null)
  const isFirst = useRef(true)
  useEffect(() => {
    // A new page, for those who do not see it.
    if (!isFirst.current) page.current?.focus()
    isFirst.current = false
    if (!hash) document.title = "Tasks"
  }, [hash])
  useEffect(() => {
    // The first page is there before what it does not need yet.
    const wait = globalThis.requestIdleCallback ?? ((run: () => void) => setTimeout(run, 200))
    wait(() => void load().catch(() => {}))
  }, [])
  return (
    <>
      <div ref={page} tabIndex={-1} className="page">
        {hash ? (
          <Boundary key={hash}>
            <Suspense fallback={<Loading />}>
              <Shared hash={hash} />
            </Suspense>
          </Boundary>
        ) : (
          <Home onNew={create} />
        )}
      </div>
      <Update />
      <Live />
    </>
  )
}

function Loading() {
  return (
    <>
      <header className="top">
        <Mark />
      </header>
      <main id="main">
        <p className="quiet">Opening…</p>
      </main>
    </>
  )
}

async function create(): Promise<void> {
  try {
    location.hash = (await load()).create()
  } catch {
    announce("The app could not be loaded. Load the page again.")
  }
}

function onHash(listener: () => void): () => void {
  addEventListener("hashchange", listener)
  return () => removeEventListener("hashchange", listener)
}

/** Whatever this tab has loaded and not yet written. */
async function flush(): Promise<void> {
  await (await loaded())?.flush()
}

function Update() {
  const isOffered = useSyncExternalStore(updates.subscribe, () => updates.current)
  const [isLater, setLater] = useState(false)
  return (
    <div role="status" className="update" hidden={!isOffered || isLater}>
      {isOffered && !isLater && (
        <>
          <p>A new version is ready.</p>
          <button type="button" className="strong" onClick={() => void takeUpdate(flush)}>
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
