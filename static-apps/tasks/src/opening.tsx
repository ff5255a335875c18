import type { AutomergeUrl, DocHandle } from "@automerge/automerge-repo/slim"
import type { Kube } from "@kube/kit"
import { useEffect, useState } from "react"

import { Access } from "./access.tsx"
import { ListPage } from "./list.tsx"
import { Mark } from "./mark.tsx"
import type { List } from "./model.ts"

/** How long a connected KUBE may take with a list before we say that it does not have it, in milliseconds. */
const PATIENCE = 6000

/** A list on its way: from this device, else from the KUBE. */
export function Opening({ kube, url }: { kube: Kube; url: AutomergeUrl }) {
  const [handle, setHandle] = useState<DocHandle<List>>()
  useEffect(() => {
    let isOn = true
    const open = async () => {
      const found = await kube.repo.find<List>(url, { allowableStates: ["ready", "unavailable"] })
      // It becomes ready when anyone who has it comes online.
      await found.whenReady()
      if (isOn) setHandle(found)
    }
    open().catch(error => console.warn("the list cannot be opened", error))
    return () => void (isOn = false)
  }, [kube, url])
  return handle ? <ListPage kube={kube} handle={handle} /> : <Missing kube={kube} />
}

function Missing({ kube }: { kube: Kube }) {
  const [at, setAt] = useState<"opening" | "offline" | "unknown">("opening")
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined
    const look = () => {
      clearTimeout(timer)
      if (kube.link && !kube.link.connected && !kube.link.trying) return setAt("offline")
      setAt("opening")
      timer = setTimeout(() => setAt(kube.link?.connected ? "unknown" : "offline"), PATIENCE)
    }
    look()
    const end = kube.onLink(look)
    return () => {
      end()
      clearTimeout(timer)
    }
  }, [kube])
  return (
    <>
      <header className="top">
        <Mark />
      </header>
      <main id="main">
        <div role="status" className="missing">
          {at === "opening" && <p className="quiet">Opening…</p>}
          {at === "offline" && (
            <>
              <h1>This list is not on this device yet.</h1>
              {kube.link?.denied ? (
                <Access kube={kube} />
              ) : (
                <p>Your KUBE cannot be reached now. The list opens here as soon as it can.</p>
              )}
            </>
          )}
          {at === "unknown" && (
            <>
              <h1>Your KUBE does not know this list.</h1>
              <p>Perhaps whoever made it has not been online since. It opens here as soon as it arrives.</p>
            </>
          )}
        </div>
      </main>
    </>
  )
}
