import { decodeSyncMessage, type Heads } from "@automerge/automerge/slim"
import type { DocumentId, Message, PeerId, PeerMetadata } from "@automerge/automerge-repo/slim"
import { WebSocketClientAdapter } from "@automerge/automerge-repo-network-websocket"

type Listener = () => void

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

  constructor(url: string) {
    // Not all at the same moment, when a KUBE comes back.
    super(url, 3000 + Math.random() * 2000)
    this.on("peer-candidate", ({ peerId }) => {
      this.#peer = peerId
      this.#heads.clear()
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

  #hear(message: Message): void {
    if (message.type !== "sync" || message.senderId !== this.#peer || !message.documentId || !message.data) return
    this.#heads.set(message.documentId, decodeSyncMessage(message.data).heads)
    this.#tell()
  }

  #tell(): void {
    for (const listener of this.#listeners) listener()
  }
}
