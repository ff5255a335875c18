/** What every app on a KUBE needs: find the KUBE, connect, say truthfully how it is, share by link. */
export { CONFIG_PATH, SYNC_PATH, findKube } from "./find.ts"
export { connect, Kube, type Options } from "./connect.ts"
export { type Link } from "./link.ts"
export { readShareLink, shareLink } from "./share.ts"
export { judge, sentence, type Facts, type Status } from "./status.ts"
export { readToken, withoutToken } from "./token.ts"
export { Watch } from "./watch.ts"
