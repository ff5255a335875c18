import { decodeSyncMessage, type Heads } from "@automerge/automerge/slim"
import { cbor, type DocumentId, type Message, type PeerId, type PeerMetadata } from "@automerge/automerge-repo/slim"
import { WebSocketClientAdapter } from "@automerge/automerge-repo-network-websocket"

import { tokenFor, withToken } from "./token.ts"

type Listener = () => void

/** What the KUBE says when it refuses something about one document, and the connection stays. */
const ABOUT = /^document (\w+): (.*)$/s

/** What the adapter waits before it tries again by itself, in milliseconds: for ever, because here it is done otherwise. */
const NEVER = 2 ** 31 - 1
/** How long an attempt may take, in milliseconds. */
const PATIENCE = 10_000
/** The shortest and the longest pause after all addresses have failed, in milliseconds. */
const PAUSE = { first: 1000, longest: 15_000 }
/** The longest pause before the next address, or the same for once, is tried, in milliseconds. */
const STEP = 300

/**
 * The connection to the KUBE, or to another that holds the same documents, and what that said on it.
 *
 * When an attempt fails the next address is tried, and after the last the first again, each time after a longer pause. It stays
 * with the one that lets it in, and when that connection is lost it tries there first.
 *
 * A KUBE announces heads only when what they name is on its disk, so the heads of its last message about a document are what
 * it has. We keep them in each session anew: a KUBE that came back from a backup may have less than before.
 */
export class Link extends WebSocketClientAdapter {
  #peer: PeerId | undefined
  #heads = new Map<DocumentId, Heads>()
  #listeners = new Set<Listener>()
  #failed = false
  #greeted = false
  #denied = new Map<string, string>()
  #current = 0
  #failures = 0
  #retry: ReturnType<typeof setTimeout> | undefined
  #refused = new Map<DocumentId, string>()

  /** Connects to one of these addresses, which have no tokens in them, the first if it can. */
  constructor(readonly addresses: readonly string[]) {
    super(addresses[0] ?? "", NEVER)
    this.on("peer-candidate", ({ peerId }) => {
      clearTimeout(this.#retry)
      this.#failures = 0
      this.#greeted = true
      this.#peer = peerId
      this.#heads.clear()
      this.#denied.clear()
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

  /** The address that is connected to, or tried, without a token. */
  get sync(): string {
    return this.addresses[this.#current] ?? ""
  }

  /** The addresses that did not let us in since we were last connected. */
  get deniedBy(): string[] {
    return [...this.#denied.keys()]
  }

  /** Whether the KUBE has greeted us on a connection that is still open. */
  get connected(): boolean {
    return this.#peer !== undefined
  }

  /** Why the KUBE does not let us in, in its words; none when it does, or has not said. */
  get denied(): string | undefined {
    return this.#denied.values().next().value
  }

  /** Why the KUBE does not take our changes of a document, in its words; none when it does, or has not said. */
  refused(document: DocumentId): string | undefined {
    return this.#refused.get(document)
  }

  /** Connects anew, with the tokens of this device as they are now. */
  again(): void {
    this.#denied.clear()
    this.socket?.close()
    if (this.remotePeerId && this.connected) this.emit("peer-disconnected", { peerId: this.remotePeerId })
    this.hurry()
    this.#tell()
  }

  /** Tries now what would be tried later. */
  hurry(): void {
    this.#failures = 0
    if (this.peerId && !this.connected) this.connect(this.peerId, this.peerMetadata)
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
    this.hurry()
  }

  override connect(peerId: PeerId, metadata?: PeerMetadata): void {
    this.#greeted = false
    // The adapter reads it for each attempt.
    ;(this as { url: string }).url = withToken(this.sync, tokenFor(this.sync))
    super.connect(peerId, metadata)
    const socket = this.socket
    this.#tryLater(PATIENCE, 1)
    socket?.addEventListener("close", () => {
      if (socket !== this.socket) return
      this.#fail()
      if (this.#greeted) this.#tryLater(STEP, 0)
      else this.#tryLater(this.#pause(), 1)
    })
  }

  override disconnect(): void {
    clearTimeout(this.#retry)
    super.disconnect()
  }

  /** Tries the address that comes so many steps later, after some pause, unless something else comes before. */
  #tryLater(pause: number, steps: number): void {
    clearTimeout(this.#retry)
    const retry = () => {
      if (!this.peerId || this.connected) return
      // Open, and not a word.
      if (this.socket?.readyState === 1) this.socket.close()
      this.#fail()
      this.#failures += steps
      this.#current = (this.#current + steps) % this.addresses.length
      this.connect(this.peerId, this.peerMetadata)
    }
    // Not the same for everyone, when a KUBE comes back.
    this.#retry = setTimeout(retry, pause * (0.5 + Math.random() / 2))
  }

  /** Short between two addresses, and longer each time that all have failed. */
  #pause(): number {
    const rounds = (this.#failures + 1) / this.addresses.length
    return Number.isInteger(rounds) ? Math.min(PAUSE.first * 2 ** (rounds - 1), PAUSE.longest) : STEP
  }

  #fail(): void {
    if (this.#failed) return
    this.#failed = true
    this.#tell()
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
    else this.#denied.set(this.sync, message)
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
