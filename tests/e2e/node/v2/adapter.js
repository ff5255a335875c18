// The network adapter suite of automerge-repo, with a KUBE between the peers: `node adapter.js wss://sync.localhost:8443/`.
import { register } from "node:module";
import "@automerge/automerge";
import { WebSocketClientAdapter } from "@automerge/automerge-repo-network-websocket";
import "../localhost.js";

// The suite is written for Vitest; all that it needs of it is in Node.
register("./resolve.js", import.meta.url);
const { runNetworkAdapterTests } = await import("@automerge/automerge-repo/helpers/tests/network-adapter-tests.js");

// An adapter that is ready when all of its test are. The suite gives them 50 ms to connect, which a TLS handshake on a
// busy machine may exceed; then one peer asks for a document whose only owner is not there yet.
class Together extends WebSocketClientAdapter {
  constructor(url, others) {
    super(url, 1000);
    this.others = others;
    others.push(this);
  }

  peerCandidate(...candidate) {
    this.met = true;
    this.tell = () => super.peerCandidate(...candidate);
    const connecting = this.others.filter((adapter) => adapter.socket);
    if (connecting.every((adapter) => adapter.met)) {
      for (const adapter of connecting) {
        adapter.tell?.();
        adapter.tell = undefined;
      }
    }
  }
}

runNetworkAdapterTests(async () => {
  const adapters = [];
  while (adapters.length < 3) new Together(process.argv[2], adapters);
  // One that no test connected cannot be disconnected.
  const teardown = () => adapters.filter((adapter) => adapter.socket).forEach((adapter) => adapter.disconnect());
  return { adapters, teardown };
}, "KUBE");
