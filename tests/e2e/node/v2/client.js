// automerge-repo 2.x.
import * as Automerge from "@automerge/automerge";
import { cbor, generateAutomergeUrl, Repo } from "@automerge/automerge-repo";
import { WebSocketClientAdapter as Adapter } from "@automerge/automerge-repo-network-websocket";
import { serve } from "../client.js";

serve({
  Automerge,
  Repo,
  Adapter,
  cbor,
  generateAutomergeUrl,
  find: (repo, doc) => repo.find(doc, { allowableStates: ["ready", "unavailable"] }),
  content: (handle) => handle.doc(),
});
