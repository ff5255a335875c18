import { decodeSyncMessage, type Heads } from "@automerge/automerge/slim"
import { cbor, type DocumentId, type Message, type PeerId, type PeerMetadata } from "@automerge/automerge-repo/slim"
import { WebSocketClientAdapter } from "@automerge/automerge-repo-network-websocket"

import { withToken } from "./token.ts"

type Listener = () => void

/** What the KUBE says when it refuses something about one document, and the connection stays. */
const ABOUT = /^document (\w+): (.*)$/s

/**
 * The connection to the KUBE, and what the KUBE said on it.
 *
 * A KUBE announces heads only when what they name is on its disk, so the heads of its last message about a document are what
 * it has. We keep them in each session anew: a KUBE that came back from a backup may have less than before.
 */
export class Link extends WebSocketClientAdapter {
  #peer: PeerId | undefined
  #heads = new Map<DocumentId, Heads>()
  #listeners = new Set<Listener>()
  #failed = false
  #denied: string | undefined
  #refused = new Map<DocumentId, string>()

  constructor(
    /** The address of the KUBE, without a token. */
    readonly sync: string,
    token: string | undefined,
  ) {
    // Not all at the same moment, when a KUBE comes back.
    super(withToken(sync, token), 3000 + Math.random() * 2000)
    this.on("peer-candidate", ({ peerId }) => {
      this.#peer = peerId
      this.#heads.clear()
      this.#denied = undefined
      this.#refused.clear()
      this.#tell()
    })
    this.on("peer-disconnected", () => {
      this.#peer = undefined
      this.#failed = true
      this.#tell()
    })
    this.on("message", message => this.#hear(message))
  }

  /** Whether the KUBE has greeted us on a connection that is still open. */
  get connected(): boolean {
    return this.#peer !== undefined
  }

  /** Why the KUBE does not let us in, in its words; none when it does, or has not said. */
  get denied(): string | undefined {
    return this.#denied
  }

  /** Why the KUBE does not take our changes of a document, in its words; none when it does, or has not said. */
  refused(document: DocumentId): string | undefined {
    return this.#refused.get(document)
  }

  /** Connects anew with this token. */
  use(token: string): void {
    // The adapter reads it for each attempt.
    ;(this as { url: string }).url = withToken(this.sync, token)
    this.#denied = undefined
    this.socket?.close()
    if (this.remotePeerId && this.connected) this.emit("peer-disconnected", { peerId: this.remotePeerId })
    if (this.peerId) this.connect(this.peerId, this.peerMetadata)
    this.#tell()
  }

  /** Whether a first attempt is still under way. */
  get trying(): boolean {
    return !this.connected && !this.#failed
  }

  /** The heads that the KUBE last announced for a document, as hashes; none when it has said nothing yet. */
  announced(document: DocumentId): Heads | undefined {
    return this.#heads.get(document)
  }

  /** Calls `listener` when the connection or anything announced has changed; the result ends that. */
  listen(listener: Listener): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Gives the connection up for a new one: for when it seems to be dead without having been closed. */
  renew(): void {
    if (!this.connected) return
    this.socket?.close()
    if (this.remotePeerId) this.emit("peer-disconnected", { peerId: this.remotePeerId })
  }

  override connect(peerId: PeerId, metadata?: PeerMetadata): void {
    super.connect(peerId, metadata)
    const socket = this.socket
    const failed = () => {
      if (this.#failed || this.connected) return
      this.#failed = true
      this.#tell()
    }
    socket?.addEventListener("close", failed)
  }

  /** What cannot be sent now is not lost: the documents sync again when the connection is back. */
  override send(message: Parameters<WebSocketClientAdapter["send"]>[0]): void {
    if (this.socket?.readyState === 1) super.send(message)
  }

  /** The adapter only logs an `error`: here it is kept, for a person to read. */
  override receiveMessage(bytes: Uint8Array): void {
    super.receiveMessage(bytes)
    const { type, message } = cbor.decode(new Uint8Array(bytes)) as { type?: unknown; message?: unknown }
    if (type !== "error" || typeof message !== "string") return
    const about = ABOUT.exec(message)
    if (this.connected && about) this.#refused.set(about[1] as DocumentId, about[2] ?? "")
    else this.#denied = message
    this.#tell()
  }

  #hear(message: Message): void {
    if (message.type !== "sync" || message.senderId !== this.#peer || !message.documentId || !message.data) return
    this.#heads.set(message.documentId, decodeSyncMessage(message.data).heads)
    this.#tell()
  }

  #tell(): void {
    for (const listener of this.#listeners) listener()
  }
}
