/** What this browser remembers besides documents: the person, and the lists that were opened. It may refuse to. */

/** A list that was opened here. */
export interface Recent {
  url: string
  title: string
}

/** How many lists are remembered. */
const MOST = 100

function read(key: string): string | null {
  try {
    return localStorage.getItem(key)
  } catch {
    return null
  }
}

function write(key: string, value: string): void {
  try {
    localStorage.setItem(key, value)
  } catch {
    // Private windows may refuse: then it is remembered only while the tab is open.
  }
}

/** This person, on this browser. */
export const person = read("person") ?? crypto.randomUUID()
write("person", person)

/** The name that others see. */
export function name(): string {
  return read("name") ?? ""
}

/** Remembers the name that others see. */
export function setName(name: string): void {
  write("name", name.trim().slice(0, 40))
}

/** The lists that were opened here, the last one first. */
export function recents(): Recent[] {
  try {
    const found: unknown = JSON.parse(read("recents") ?? "[]")
    const isRecent = (one: Partial<Recent> | null) => typeof one?.url === "string" && typeof one.title === "string"
    return Array.isArray(found) ? found.filter(isRecent) : []
  } catch {
    return []
  }
}

/** Remembers a list as the last one opened. */
export function remember(recent: Recent): void {
  const others = recents().filter(({ url }) => url !== recent.url)
  write("recents", JSON.stringify([recent, ...others].slice(0, MOST)))
}

/** Forgets a list here; the list itself stays. */
export function forget(url: string): void {
  write("recents", JSON.stringify(recents().filter(recent => recent.url !== url)))
}

/** What was typed and not yet added, until the tab is closed: it outlives a reload. */
export const draft = {
  get: (url: string) => sessionStorage.getItem(`draft ${url}`) ?? "",
  set: (url: string, text: string) =>
    text ? sessionStorage.setItem(`draft ${url}`, text) : sessionStorage.removeItem(`draft ${url}`),
}
