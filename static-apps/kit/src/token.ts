/**
 * Tokens: what a KUBE lets people in by that does not let everyone in. One is kept on this device for each KUBE.
 *
 * A link may bring one in its fragment, which browsers do not send to servers: `#automerge:<id>&token=<token>`, or `#token=<token>`.
 */

import { keep, kept } from "./kept.ts"

/** What a token is made of; anything else does not belong into an address. */
const TOKEN = /^[A-Za-z0-9_-]{1,200}$/

/** Returns the token in what a person pasted: the token itself, a link with one, or its fragment; nothing when there is none. */
export function readToken(text: string = location.hash): string | undefined {
  const written = text.trim()
  const named = /[#&?]token=([^&#]*)/.exec(decoded(written))?.[1]
  const token = named ?? (/[#:/=]/.test(written) ? "" : written)
  return TOKEN.test(token) ? token : undefined
}

/** The same address without its token, for the address bar: a screenshot or a bookmark should not give it away. */
export function withoutToken(page: string = location.href): string {
  const [before, fragment] = split(page)
  const rest = decoded(fragment).split("&").filter(part => !part.startsWith("token=")).join("&")
  return rest === "" ? before : `${before}#${rest}`
}

/** The token that this device has for the KUBE at this address. */
export function tokenFor(sync: string): string | undefined {
  return kept(key(sync))
}

/** Keeps a token on this device for the KUBE at this address, in place of the one before. */
export function keepToken(sync: string, token: string): void {
  keep(key(sync), token)
}

/** The address to connect to: browsers set no headers on a WebSocket, so the token is in the query. */
export function withToken(sync: string, token: string | undefined): string {
  if (token === undefined) return sync
  const address = new URL(sync)
  address.searchParams.set("token", token)
  return address.href
}

const key = (sync: string) => `kube-token:${new URL(sync).host}`

function split(page: string): [string, string] {
  const hash = page.indexOf("#")
  return hash < 0 ? [page, ""] : [page.slice(0, hash), page.slice(hash + 1)]
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
