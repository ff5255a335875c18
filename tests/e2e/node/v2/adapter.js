// The network adapter suite of automerge-repo, with a KUBE between the peers: `node adapter.js wss://sync.localhost:8443/`.
import { register } from "node:module";
import "@automerge/automerge";
import { WebSocketClientAdapter } from "@automerge/automerge-repo-network-websocket";
import "../localhost.js";

// The suite is written for Vitest; all that it needs of it is in Node.
register("./resolve.js", import.meta.url);
const { runNetworkAdapterTests } = await import("@automerge/automerge-repo/helpers/tests/network-adapter-tests.js");

runNetworkAdapterTests(async () => {
  const adapters = Array.from({ length: 3 }, () => new WebSocketClientAdapter(process.argv[2], 200));
  // One that no test connected cannot be disconnected.
  const teardown = () => adapters.filter((adapter) => adapter.socket).forEach((adapter) => adapter.disconnect());
  return { adapters, teardown };
}, "KUBE");
