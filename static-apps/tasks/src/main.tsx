import { RepoContext } from "@automerge/automerge-repo-react-hooks"
import { initializeWasm } from "@automerge/automerge-repo/slim"
import wasm from "@automerge/automerge/automerge.wasm?url"
import { connect } from "@kube/kit"
import { createRoot } from "react-dom/client"

import { App } from "./app.tsx"
import "./style.css"
import { register } from "./update.ts"

await initializeWasm(new Request(wasm))
const kube = connect()
createRoot(document.getElementById("root")!).render(
  <RepoContext.Provider value={kube.repo}>
    <App kube={kube} />
  </RepoContext.Provider>,
)
void register()
