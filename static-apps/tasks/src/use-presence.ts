import type { DocHandle, DocHandleEphemeralMessagePayload } from "@automerge/automerge-repo/slim"
import { useCallback, useEffect, useRef, useState } from "react"

import { person } from "./device.ts"
import { BEAT, Presence, readHello, type Hello, type Person } from "./presence.ts"

const tab = crypto.randomUUID()

/** Who else is in a list; `say` tells them which item we edit. */
export function usePresence(handle: DocHandle<unknown>, name: string): [Person[], (editing: string | undefined) => void] {
  const [others, setOthers] = useState<Person[]>([])
  const mine = useRef<{ name: string; editing: string | undefined }>({ name, editing: undefined })

  const greet = useCallback(
    (bye?: true) => {
      const { name, editing } = mine.current
      const hello: Hello = { kube: "here", tab, person, name, ...(editing && { editing }), ...(bye && { bye }) }
      handle.broadcast(hello)
    },
    [handle],
  )

  useEffect(() => {
    const presence = new Presence(person)
    const show = () => {
      const next = presence.others(Date.now())
      setOthers(last => (JSON.stringify(last) === JSON.stringify(next) ? last : next))
    }
    const hear = ({ message }: DocHandleEphemeralMessagePayload<unknown>) => {
      const hello = readHello(message)
      if (!hello || hello.tab === tab) return
      if (presence.hear(hello, Date.now())) greet()
      show()
    }
    const leave = () => greet(true)
    const beat = setInterval(() => {
      greet()
      show()
    }, BEAT)
    handle.on("ephemeral-message", hear)
    addEventListener("pagehide", leave)
    greet()
    return () => {
      clearInterval(beat)
      handle.off("ephemeral-message", hear)
      removeEventListener("pagehide", leave)
      leave()
    }
  }, [handle, greet])

  useEffect(() => {
    mine.current.name = name
    greet()
  }, [greet, name])

  const say = useCallback(
    (editing: string | undefined) => {
      if (mine.current.editing === editing) return
      mine.current.editing = editing
      greet()
    },
    [greet],
  )
  return [others, say]
}
