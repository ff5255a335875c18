import { Repo } from "@automerge/automerge-repo/slim"
import { BroadcastChannelNetworkAdapter } from "@automerge/automerge-repo-network-broadcastchannel"
import { IndexedDBStorageAdapter } from "@automerge/automerge-repo-storage-indexeddb"

import { findKube } from "./find.ts"
import { Link } from "./link.ts"
import { keepToken, readToken, tokenFor, withoutToken } from "./token.ts"

/** How to connect; everything has a default. */
export interface Options {
  /** The WebSocket address of the KUBE, or of several that hold the same documents. Default: what {@link findKube} finds. */
  sync?: string | readonly string[]
  /** A token for the KUBE, which is kept on this device. Default: the one kept, or that of a link in the address. */
  token?: string
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
  #token: string | undefined
  #offered: string | undefined

  constructor({ sync, token, database = "kube", tabs = true }: Options) {
    this.#token = token
    this.repo = new Repo({
      storage: new IndexedDBStorageAdapter(database),
      network: tabs && "BroadcastChannel" in globalThis ? [new BroadcastChannelNetworkAdapter()] : [],
    })
    void this.#connect(sync)
    if (!("location" in globalThis)) return
    this.#readAddress()
    addEventListener("hashchange", () => this.#readAddress())
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

  /** Connects with this token from now on, and keeps it on this device. */
  useToken(token: string): void {
    this.#token = token
    if (!this.#link) return
    const { deniedBy, sync } = this.#link
    for (const address of deniedBy.length > 0 ? deniedBy : [sync]) keepToken(address, token)
    this.#link.again()
  }

  /**
   * Connects with this token if it helps: when this device has none, or the KUBE does not let it in with the one it has.
   *
   * So a link that somebody sends cannot take a token away that is good.
   */
  offerToken(token: string): void {
    this.#offered = token
    this.#tryOffered()
  }

  #tryOffered(): void {
    if (this.#offered === undefined || !this.#link) return
    if (tokenFor(this.#link.sync) !== undefined && this.#link.denied === undefined) return
    const token = this.#offered
    this.#offered = undefined
    this.useToken(token)
  }

  /** A token that a link brings leaves the address: no bookmark and no picture of the screen gives it away. */
  #readAddress(): void {
    const token = readToken()
    if (token === undefined) return
    history.replaceState(history.state, "", withoutToken())
    dispatchEvent(new HashChangeEvent("hashchange"))
    this.offerToken(token)
  }

  async #connect(given: string | readonly string[] = []): Promise<void> {
    const named = typeof given === "string" ? [given] : given
    const addresses = named.length > 0 ? named : await findKube()
    if (this.#token !== undefined && addresses[0]) keepToken(addresses[0], this.#token)
    const link = new Link(addresses)
    this.#link = link
    link.listen(() => {
      this.#tryOffered()
      // When the repo has taken in the message that we saw first.
      setTimeout(() => this.#listeners.forEach(listener => listener()))
    })
    this.#tryOffered()
    this.repo.networkSubsystem.addNetworkAdapter(link)
    // Leaving the network does not close a connection by itself: try a new one, which tells.
    globalThis.addEventListener?.("offline", () => link.renew())
    globalThis.addEventListener?.("online", () => link.hurry())
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
