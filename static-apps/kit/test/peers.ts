/** Peers for tests. */
import { cbor, Repo, type Message } from "@automerge/automerge-repo"
import { WebSocketServerAdapter } from "@automerge/automerge-repo-network-websocket"
import { type WebSocket, WebSocketServer } from "ws"

/** A peer that can be told to hold its answers back, as one does whose disk is slow. */
export class SlowPeer {
  readonly sockets: WebSocketServer
  #held: (() => void)[] | undefined
  readonly repo: Repo

  constructor(port: number) {
    this.sockets = new WebSocketServer({ port, host: "127.0.0.1" })
    const adapter = new WebSocketServerAdapter(this.sockets as never)
    const send = adapter.send.bind(adapter)
    adapter.send = message => {
      if (this.#held && (message as Message).type === "sync") this.#held.push(() => send(message))
      else send(message)
    }
    this.repo = new Repo({ network: [adapter], sharePolicy: async () => false })
  }

  get port(): number {
    return (this.sockets.address() as { port: number }).port
  }

  get url(): string {
    return `ws://127.0.0.1:${this.port}/`
  }

  hold(): void {
    this.#held = []
  }

  /** How many answers wait. */
  get holds(): number {
    return this.#held?.length ?? 0
  }

  release(): void {
    const held = this.#held ?? []
    this.#held = undefined
    for (const send of held) send()
  }

  async stop(): Promise<void> {
    for (const socket of this.sockets.clients) socket.terminate()
    await new Promise(resolve => this.sockets.close(resolve))
  }
}

/** A KUBE that lets in one token, and takes no changes. */
export class Guarded {
  readonly sockets = new WebSocketServer({ port: 0, host: "127.0.0.1" })
  readonly asked: (string | null)[] = []

  get url(): string {
    return `ws://127.0.0.1:${(this.sockets.address() as { port: number }).port}/`
  }

  constructor(token: string) {
    const say = (socket: WebSocket, frame: object) => socket.send(cbor.encode({ senderId: "kube", ...frame }))
    this.sockets.on("connection", (socket, request) => {
      const shown = new URL(request.url ?? "", "ws://kube").searchParams.get("token")
      this.asked.push(shown)
      socket.on("message", (bytes: Buffer) => {
        const { type, senderId: targetId, documentId } = cbor.decode(new Uint8Array(bytes)) as Record<string, string>
        if (type === "sync") return say(socket, { type: "error", targetId, message: `document ${documentId}: only to read` })
        if (type !== "join") return
        if (shown === token) return say(socket, { type: "peer", targetId, selectedProtocolVersion: "1", peerMetadata: {} })
        say(socket, { type: "error", targetId, message: "this KUBE lets in who has a token" })
        socket.close()
      })
    })
  }
}
