// automerge-repo 1.x.
import * as Automerge from "@automerge/automerge";
import { cbor, generateAutomergeUrl, Repo } from "@automerge/automerge-repo";
import { BrowserWebSocketClientAdapter as Adapter } from "@automerge/automerge-repo-network-websocket";
import { serve } from "../client.js";

serve({
  Automerge,
  Repo,
  Adapter,
  cbor,
  generateAutomergeUrl,
  async find(repo, doc) {
    const handle = repo.find(doc);
    await handle.whenReady(["ready", "unavailable"]);
    return handle;
  },
  content: (handle) => handle.docSync(),
});
