import { getHeads } from "@automerge/automerge/slim"
import type { DocHandle } from "@automerge/automerge-repo/slim"

import type { Kube } from "./connect.ts"
import { judge, type Facts, type Status } from "./status.ts"

/** How long a change may wait for its acknowledgement before the connection is taken for dead, in milliseconds. */
const PATIENCE = 15_000

/** Follows one document that is ready: its status, as a store with `subscribe` and `current`. */
export class Watch {
  #listeners = new Set<() => void>()
  #status: Status = "connecting"
  #device: Facts["device"] = "kept"
  #writing = false
  #impatience: ReturnType<typeof setTimeout> | undefined
  #end: () => void

  constructor(
    private readonly kube: Kube,
    private readonly handle: DocHandle<unknown>,
  ) {
    const changed = () => void this.#keep()
    const unlisten = kube.onLink(() => this.#judge())
    handle.on("heads-changed", changed)
    this.#end = () => {
      unlisten()
      handle.off("heads-changed", changed)
      clearTimeout(this.#impatience)
    }
    void this.#keep()
  }

  /** What may be claimed now. */
  get current(): Status {
    return this.#status
  }

  /** Calls `listener` when the status has changed; the result ends that. */
  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Stops following. */
  end(): void {
    this.#end()
  }

  /** Writes to the disk of this device until what is there is what we have. */
  async #keep(): Promise<void> {
    this.#device = "writing"
    this.#judge()
    if (this.#writing) return
    this.#writing = true
    try {
      let kept: string | undefined
      while (kept !== this.#ours().join()) {
        kept = this.#ours().join()
        await this.kube.repo.flush([this.handle.documentId])
      }
      this.#device = "kept"
    } catch {
      this.#device = "refused"
    }
    this.#writing = false
    this.#judge()
  }

  #ours(): string[] {
    return getHeads(this.handle.doc())
  }

  #judge(): void {
    const { link } = this.kube
    const status = judge({
      link: link?.connected ? "connected" : !link || link.trying ? "trying" : link.denied ? "denied" : "offline",
      device: this.#device,
      ours: this.#ours(),
      theirs: link?.announced(this.handle.documentId),
      isReadOnly: link?.refused(this.handle.documentId) !== undefined,
    })
    if (status === this.#status) return
    this.#status = status
    clearTimeout(this.#impatience)
    if (status === "saving") this.#impatience = setTimeout(() => link?.renew(), PATIENCE)
    for (const listener of this.#listeners) listener()
  }
}
