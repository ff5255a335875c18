import wasm from "@automerge/automerge/automerge.wasm?url"

let core: Promise<typeof import("./core.tsx")> | undefined

/** Loads what lists need, once; its WebAssembly beside its script. */
export function load(): Promise<typeof import("./core.tsx")> {
  if (core) return core
  const preload = Object.assign(document.createElement("link"), { rel: "preload", as: "fetch", href: wasm, crossOrigin: "" })
  document.head.append(preload)
  core = import("./core.tsx")
  // The next attempt may find it.
  core.catch(() => (core = undefined))
  return core
}

/** What is loaded already, so that nothing is loaded just to be asked. */
export function loaded(): typeof core {
  return core
}
