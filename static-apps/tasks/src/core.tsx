/** Everything that needs Automerge: loaded after the first page is there, or at once when the address names a list. */
import { RepoContext } from "@automerge/automerge-repo-react-hooks"
import { initializeWasm, type DocumentId, type Repo } from "@automerge/automerge-repo/slim"
import wasm from "@automerge/automerge/automerge.wasm?url"
import { connect, readShareLink } from "@kube/kit"

import { NoList } from "./list.tsx"
import type { List } from "./model.ts"
import { Opening } from "./opening.tsx"

await initializeWasm(new Request(wasm))
const kube = connect()
saveInTurn(kube.repo)

/** The list that a fragment names. */
export function Shared({ hash }: { hash: string }) {
  const url = readShareLink(hash)
  if (!url) return <NoList />
  return (
    <RepoContext.Provider value={kube.repo}>
      <Opening key={url} kube={kube} url={url} />
    </RepoContext.Provider>
  )
}

/** Makes a list, and returns its fragment. */
export function create(): string {
  return kube.repo.create<List>({ title: "New list", items: [] }).url
}

/** Everything is on the disk of this device when it resolves. */
export function flush(): Promise<void> {
  return kube.repo.flush()
}

/**
 * Two ask for every change to be written, the repo and whoever waits for the disk of this device. One after the other, the
 * second finds it done. At once they would write the same, and a big paste so that the next click writes the whole list anew.
 */
function saveInTurn({ storageSubsystem: storage }: Repo): void {
  if (!storage) return
  const save = storage.saveDoc.bind(storage)
  const turns = new Map<DocumentId, Promise<void>>()
  storage.saveDoc = (id, doc) => {
    const turn = (turns.get(id) ?? Promise.resolve()).catch(() => {}).then(() => save(id, doc))
    turns.set(id, turn)
    return turn
  }
}
