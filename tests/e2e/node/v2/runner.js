// What the network adapter suite takes from Vitest, out of Node.
import * as test from "node:test";

// These look at a peer that is connected directly: at what it says of itself, and at its leaving. Here that is the KUBE,
// which stays.
const ASIDE = [
  "emits a peer-candidate event with proper peer metadata when a peer connects",
  "should emit disconnect events on disconnect",
  "should not send messages after disconnect",
];

export const describe = test.describe;
export const it = (name, run) => test.it(name, { timeout: 10_000, skip: ASIDE.includes(name) }, run);
// Only those need it.
export const expect = undefined;
