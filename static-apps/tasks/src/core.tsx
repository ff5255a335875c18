/** Everything that needs Automerge: loaded after the first page is there, or at once when the address names a list. */
import { RepoContext } from "@automerge/automerge-repo-react-hooks"
import { initializeWasm } from "@automerge/automerge-repo/slim"
import wasm from "@automerge/automerge/automerge.wasm?url"
import { connect, readShareLink } from "@kube/kit"

import { NoList } from "./list.tsx"
import type { List } from "./model.ts"
import { Opening } from "./opening.tsx"

await initializeWasm(new Request(wasm))
const kube = connect()

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
