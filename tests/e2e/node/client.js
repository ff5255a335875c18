// A real automerge-repo client, steered by JSON lines.
//
// Reads `{"id", "op", ...}` from standard input, answers `{"id", "value"}` or `{"id", "error"}` on standard output, and
// says there what happens by itself: `{"event": "peer" | "gone" | "saved" | "ephemeral" | "error" | "trouble", ...}`. Ends when
// standard input does. `v1/` and `v2/` call `serve` with the two generations of the library.
import https from "node:https";
import { createInterface } from "node:readline";
import WebSocket from "ws";
import "./localhost.js";

// A browser says of which page a WebSocket is; here a test does.
let page;
const request = https.request;
https.request = (options, ...rest) =>
  request(page ? { ...options, headers: { ...options.headers, Origin: page } } : options, ...rest);

/** A storage that forgets. */
function memory() {
  const kept = new Map();
  const name = (key) => key.join("/");
  const within = (prefix) => [...kept.values()].filter(({ key }) => prefix.every((part, at) => key[at] === part));
  return {
    load: async (key) => kept.get(name(key))?.data,
    save: async (key, data) => void kept.set(name(key), { key, data }),
    remove: async (key) => void kept.delete(name(key)),
    loadRange: async (prefix) => within(prefix),
    removeRange: async (prefix) => within(prefix).forEach(({ key }) => kept.delete(name(key))),
  };
}

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

/** Serves standard input with one generation of the library: `find` and `content` differ between them. */
export function serve({ Automerge, Repo, Adapter, cbor, generateAutomergeUrl, find, content }) {
  let repo, socket;
  const adapters = [];
  const handles = new Map(); // id -> handle
  const serverHeads = new Map(); // adapter -> Map(id -> heads as its server last said them)
  const written = new Map(); // id -> Map(head -> how many changes it stands for)
  let waiting = []; // checks to repeat whenever something changed

  const recheck = () => (waiting = waiting.filter((check) => !check()));
  const until = (holds) =>
    new Promise((done) => {
      waiting.push(() => holds() && (done(), true));
      recheck();
    });
  const headsOf = (doc) => Automerge.getHeads(content(handles.get(doc)));
  const sorted = (heads) => String([...(heads ?? [])].sort());
  const saved = (doc) => [...serverHeads.values()].some((heads) => sorted(headsOf(doc)) === sorted(heads.get(doc)));

  function hold(handle) {
    const doc = handle.documentId;
    if (!handles.has(doc)) {
      handles.set(doc, handle);
      handle.on("change", recheck);
      handle.on("ephemeral-message", ({ message, senderId }) =>
        say({ event: "ephemeral", doc, message, from: senderId }),
      );
    }
    return doc;
  }

  // What the server has: the heads it names in its own sync messages.
  function overhear(adapter, { type, documentId: doc, data }) {
    if (type !== "sync") return;
    const { heads } = Automerge.decodeSyncMessage(new Uint8Array(data));
    serverHeads.get(adapter).set(doc, heads);
    const counts = heads.map((head) => written.get(doc)?.get(head)).filter((count) => count !== undefined);
    if (counts.length > 0) say({ event: "saved", doc, count: Math.max(...counts) });
    recheck();
  }

  function add(doc, item) {
    const handle = handles.get(doc);
    handle.change((value) => {
      value.items ??= [];
      value.items.push(item);
    });
    const counts = written.get(doc) ?? new Map();
    counts.set(headsOf(doc)[0], content(handle).items.length);
    written.set(doc, counts);
  }

  const ops = {
    /**
     * Connects to `url`, or to all `urls`, as a page of `origin`, and answers when the servers have answered; `wait: false`
     * answers at once. `gossip: true` keeps documents, so that there is a storage id, and hears of others' heads.
     */
    async connect({ url, urls = [url], peer, origin, retry = 200, wait = true, gossip = false }) {
      page = origin;
      adapters.push(...urls.map((url) => new Adapter(url, retry)));
      for (const adapter of adapters) {
        const receive = adapter.receiveMessage.bind(adapter);
        adapter.receiveMessage = (bytes) => {
          const { type, message } = cbor.decode(new Uint8Array(bytes));
          if (type === "error") say({ event: "error", message });
          receive(bytes);
        };
        serverHeads.set(adapter, new Map());
        adapter.on("message", (message) => overhear(adapter, message));
        adapter.on("peer-candidate", ({ peerId }) => say({ event: "peer", peer: peerId }));
        adapter.on("peer-disconnected", ({ peerId }) => {
          serverHeads.get(adapter).clear();
          say({ event: "gone", peer: peerId });
        });
      }
      const answered = adapters.map((adapter) => new Promise((done) => adapter.once("peer-candidate", done)));
      const storing = gossip ? { storage: memory(), enableRemoteHeadsGossiping: true } : {};
      repo = new Repo({ network: [...adapters], peerId: peer, sharePolicy: async () => true, ...storing });
      if (wait) await Promise.all(answered);
    },
    /** The storage id, which others subscribe to. */
    storage: () => repo.storageId(),
    /** Hears of what these storages have. */
    subscribe({ storages }) {
      repo.subscribeToRemotes(storages);
    },
    /** Answers when that storage is known to have all of a document that is here. */
    async stored({ doc, storage }) {
      const handle = handles.get(doc);
      handle.on("remote-heads", () => setImmediate(recheck));
      await until(() => String([...(handle.getSyncInfo(storage)?.lastHeads ?? [])].sort()) === String([...handle.heads()].sort()));
    },
    /** Makes `count` documents with one item each; answers their ids. */
    create({ count = 1, item = 0 }) {
      return Array.from({ length: count }, () => {
        const doc = hold(repo.create());
        add(doc, item);
        return doc;
      });
    },
    /** Appends `item` to a document's list. */
    add({ doc, item }) {
      add(doc, item);
    },
    /** Fills a document with `bytes` of text that does not compress. */
    fill({ doc, bytes }) {
      const text = Array.from({ length: bytes }, () => String.fromCharCode(33 + Math.random() * 90)).join("");
      handles.get(doc).change((value) => (value.text = text));
    },
    /** Answers when the server has said that it has all that is here. */
    async saved({ docs = [...handles.keys()] }) {
      await until(() => docs.every(saved));
    },
    /** Makes documents and appends to them for ever, each change as soon as the one before is saved. */
    write({ docs }) {
      for (let i = 0; i < docs; i++) {
        const doc = hold(repo.create());
        let next = 0;
        const go = () => {
          if (next > 0 && !saved(doc)) return;
          add(doc, next++);
        };
        for (const adapter of adapters)
          adapter.on("message", (message) => message.documentId === doc && setImmediate(go));
        go();
      }
    },
    /** The id of a document that nobody has. */
    unheard() {
      return generateAutomergeUrl().slice("automerge:".length);
    },
    /** Finds a document: `{state, value}`. */
    async find({ doc }) {
      const handle = await find(repo, doc);
      if (handle.state !== "ready") return { state: handle.state };
      hold(handle);
      return { state: "ready", value: content(handle) };
    },
    /** Finds many documents; answers their lists, by id. */
    async read({ docs }) {
      const found = await Promise.all(docs.map((doc) => ops.find({ doc })));
      return Object.fromEntries(docs.map((doc, i) => [doc, found[i].value?.items ?? null]));
    },
    /** Answers when the document's list holds `items`, in any order, and nothing else. */
    async holds({ doc, items }) {
      const sorted = (list) => JSON.stringify([...(list ?? [])].sort((a, b) => a - b));
      await until(() => sorted(content(handles.get(doc)).items) === sorted(items));
    },
    /**
     * Opens a bare WebSocket beside the repo: `{status, body}`, 101 when it was let in. `answers: false` leaves the
     * server's pings unanswered.
     */
    async open({ url, origin, headers, answers = true }) {
      socket = new WebSocket(url, { origin, headers, autoPong: answers, perMessageDeflate: false });
      socket.received = [];
      socket.pings = 0;
      socket.on("ping", () => (socket.pings++, recheck()));
      socket.on("message", (data) => (socket.received.push(data.toString("hex")), recheck()));
      socket.on("close", (code, reason) => ((socket.closed = { code, reason: String(reason) }), recheck()));
      return await new Promise((done) => {
        socket.on("error", (error) => done({ status: 0, body: error.message }));
        socket.on("open", () => done({ status: 101, body: "" }));
        socket.on("unexpected-response", async (_, response) => {
          let body = "";
          for await (const part of response) body += part;
          done({ status: response.statusCode, body });
        });
      });
    },
    /** Sends a binary message on the bare socket: `hex`, or one byte `fill` `bytes` times. */
    send({ hex = "", fill, bytes = 0 }) {
      socket.send(bytes > 0 ? Buffer.alloc(bytes, fill) : Buffer.from(hex, "hex"));
    },
    /** Sends text, which the wire does not know. */
    sendText({ text }) {
      socket.send(text);
    },
    /** Answers when the server has closed the bare socket: `{code, reason}`. */
    async closed() {
      await until(() => socket.closed);
      return socket.closed;
    },
    /** Answers when the server has sent this many messages on the bare socket: hex. */
    async received({ count }) {
      await until(() => socket.received.length >= count);
      return socket.received;
    },
    /** Answers when the server has pinged the bare socket this often. */
    async pinged({ count }) {
      await until(() => socket.pings >= count);
    },
    /** Sends `message` to whoever else has the document open. */
    broadcast({ doc, message }) {
      handles.get(doc).broadcast(message);
    },
  };

  // The adapters throw, from the socket's own events, what they do not expect.
  process.on("uncaughtException", (error) => say({ event: "trouble", message: String(error?.message ?? error) }));
  process.on("unhandledRejection", (error) => say({ event: "trouble", message: String(error?.message ?? error) }));

  const lines = createInterface({ input: process.stdin });
  lines.on("close", () => process.exit(0));
  lines.on("line", async (line) => {
    const { id, op, ...args } = JSON.parse(line);
    try {
      say({ id, value: (await ops[op](args)) ?? null });
    } catch (error) {
      say({ id, error: String(error?.stack ?? error) });
    }
  });
}
