import { Repo } from "@automerge/automerge-repo/slim"
import { BroadcastChannelNetworkAdapter } from "@automerge/automerge-repo-network-broadcastchannel"
import { IndexedDBStorageAdapter } from "@automerge/automerge-repo-storage-indexeddb"

import { findKube } from "./find.ts"
import { Link } from "./link.ts"

/** How to connect; everything has a default. */
export interface Options {
  /** The WebSocket address of the KUBE. Default: what {@link findKube} finds. */
  sync?: string
  /** The name of the database on this device. Default: "kube". */
  database?: string
  /** Whether tabs of the same browser sync directly, which they can offline. Default: true. */
  tabs?: boolean
}

/** A repo that keeps documents on this device and on the KUBE. */
export class Kube {
  readonly repo: Repo
  #link: Link | undefined
  #listeners = new Set<() => void>()

  constructor({ sync, database = "kube", tabs = true }: Options) {
    this.repo = new Repo({
      storage: new IndexedDBStorageAdapter(database),
      network: tabs && "BroadcastChannel" in globalThis ? [new BroadcastChannelNetworkAdapter()] : [],
    })
    void this.#connect(sync)
  }

  /** The connection; none while the KUBE is being looked for. */
  get link(): Link | undefined {
    return this.#link
  }

  /** Calls `listener` when the connection or what the KUBE announced has changed; the result ends that. */
  onLink(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  async #connect(sync: string | undefined): Promise<void> {
    const link = new Link(sync ?? (await findKube()))
    this.#link = link
    link.listen(() => {
      // When the repo has taken in the message that we saw first.
      setTimeout(() => this.#listeners.forEach(listener => listener()))
    })
    this.repo.networkSubsystem.addNetworkAdapter(link)
    // Leaving the network does not close a connection by itself: try a new one, which tells.
    globalThis.addEventListener?.("offline", () => link.renew())
  }
}

/**
 * Opens the documents of this device, and connects to the KUBE when it is there.
 *
 * Returns at once: what is on this device can be opened while the KUBE is still being looked for. Automerge must have been
 * initialized (`initializeWasm` of `@automerge/automerge-repo/slim`).
 */
export function connect(options: Options = {}): Kube {
  return new Kube(options)
}
