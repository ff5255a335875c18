import { initializeWasm, type DocHandle } from "@automerge/automerge-repo/slim"
import wasm from "@automerge/automerge/automerge.wasm?url"
import { connect, readShareLink, sentence, shareLink, Watch } from "@kube/kit"

/** The document. Whoever has its link reads and writes it, offline too; what two people do at once is merged. */
interface Board {
  notes: Note[]
}

interface Note {
  id: string
  text: string
}

const find = <E extends Element>(selector: string): E => document.querySelector<E>(selector)!
const status = find<HTMLElement>("#status")
const list = find<HTMLUListElement>("ul")
const field = find<HTMLInputElement>("#text")
const rows = new Map<string, HTMLLIElement>()

if (import.meta.env.PROD) void navigator.serviceWorker?.register("/worker.js")
let shown = readShareLink()
addEventListener("hashchange", () => {
  if (readShareLink() !== shown) location.reload()
})

await initializeWasm(new Request(wasm))
const kube = connect()
const handle = await open()
shown = handle.url
history.replaceState(null, "", shareLink(shown))
localStorage.setItem("last", handle.url)

const watch = new Watch(kube, handle)
watch.subscribe(tell)
tell()
handle.on("change", draw)
draw()
find<HTMLElement>("#board").hidden = false

find<HTMLFormElement>("form").addEventListener("submit", event => {
  event.preventDefault()
  const text = field.value.trim()
  if (text) handle.change(board => void board.notes.push({ id: crypto.randomUUID(), text }))
  field.value = ""
})

find("#share").addEventListener("click", async () => {
  const link = shareLink(handle.url)
  try {
    await navigator.clipboard.writeText(link)
    find("#said").textContent = "The link is copied: whoever has it has this board."
  } catch {
    prompt("Whoever has this link has this board:", link)
  }
})

/** The board of the address, else the last one of this browser, else a new one. */
async function open(): Promise<DocHandle<Board>> {
  const link = location.hash || localStorage.getItem("last") || "#new"
  const url = readShareLink(link)
  if (link === "#new") return kube.repo.create<Board>({ notes: [] })
  if (!url) throw new Error((status.textContent = "This link does not lead to a board."))
  const found = await kube.repo.find<Board>(url, { allowableStates: ["ready", "unavailable"] })
  if (!found.isReady()) status.textContent = "Waiting for this board: neither this device nor your KUBE has it yet."
  await found.whenReady()
  return found
}

function tell(): void {
  status.textContent = sentence(watch.current)
  status.dataset["status"] = watch.current
}

/** Makes the page show the document. A row that stays is not touched, so it keeps the focus. */
function draw(): void {
  const { notes } = handle.doc()
  for (const [id, row] of rows) {
    if (notes.some(note => note.id === id)) continue
    if (row.contains(document.activeElement)) field.focus()
    row.remove()
    rows.delete(id)
  }
  notes.forEach((note, index) => {
    const row = rows.get(note.id) ?? newRow(note)
    if (list.children[index] !== row) list.insertBefore(row, list.children[index] ?? null)
  })
}

function newRow({ id, text }: Note): HTMLLIElement {
  const row = document.createElement("li")
  const shown = document.createElement("span")
  const remove = document.createElement("button")
  shown.textContent = text
  remove.textContent = "Remove"
  remove.ariaLabel = `Remove ${text}`
  remove.addEventListener("click", () =>
    handle.change(({ notes }) => void notes.splice(notes.findIndex(note => note.id === id), 1)),
  )
  row.append(shown, remove)
  rows.set(id, row)
  return row
}
