/** Pure: who is here, from messages that may come from anyone, late, or never again. */

/** How often a tab says that it is here, and after how long it is taken for gone, in milliseconds. */
export const BEAT = 10_000
export const GONE = 25_000
/** Most people who are kept, and the longest name. */
const MOST = 50
const LONGEST = 40

/** What a tab says. */
export interface Hello {
  kube: "here"
  /** The tab, and the person in it, who may have several. */
  tab: string
  person: string
  name: string
  /** The item that is being edited. */
  editing?: string
  /** The tab is closing. */
  bye?: true
}

/** Somebody else. */
export interface Person {
  person: string
  name: string
  editing: string | undefined
}

/** Reads a message; nothing when it is not a greeting. */
export function readHello(message: unknown): Hello | undefined {
  if (typeof message !== "object" || message === null) return undefined
  const { kube, tab, person, name, editing, bye } = message as Record<string, unknown>
  const isShort = (text: unknown): text is string => typeof text === "string" && text.length > 0 && text.length <= 64
  if (kube !== "here" || !isShort(tab) || !isShort(person) || typeof name !== "string") return undefined
  return {
    kube,
    tab,
    person,
    name: name.trim().slice(0, LONGEST) || "Someone",
    ...(isShort(editing) && { editing }),
    ...(bye === true && { bye }),
  }
}

/** The tabs that are here. */
export class Presence {
  #tabs = new Map<string, Hello & { heard: number }>()

  constructor(private readonly me: string) {}

  /** Takes a greeting in; whether the sender is new, and so does not know us yet. */
  hear(hello: Hello, now: number): boolean {
    if (hello.bye) return void this.#tabs.delete(hello.tab), false
    const isNew = !this.#tabs.has(hello.tab)
    if (isNew && this.#tabs.size >= MOST) return false
    this.#tabs.set(hello.tab, { ...hello, heard: now })
    return isNew
  }

  /** The others, by name, each once; those who have fallen silent are forgotten. */
  others(now: number): Person[] {
    const people = new Map<string, Person>()
    for (const [tab, { person, name, editing, heard }] of this.#tabs) {
      if (now - heard > GONE) this.#tabs.delete(tab)
      else if (person !== this.me)
        people.set(person, { person, name, editing: editing ?? people.get(person)?.editing })
    }
    return [...people.values()].sort((a, b) => a.name.localeCompare(b.name) || a.person.localeCompare(b.person))
  }
}
