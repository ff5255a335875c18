import { isValidAutomergeUrl, type AutomergeUrl } from "@automerge/automerge-repo/slim"

/**
 * Returns the address that opens `document` in this app, for anyone who gets it.
 *
 * The document's name is in the fragment, which browsers do not send to servers: who has the link has the document.
 */
export function shareLink(document: AutomergeUrl, page: string = location.href): string {
  const link = new URL(page)
  link.hash = document
  return link.href
}

/**
 * Returns the document that a share link, its fragment, or a bare Automerge URL names; nothing when it names none.
 *
 * More may follow the name after a `&`: a token, say.
 */
export function readShareLink(text: string = location.hash): AutomergeUrl | undefined {
  const name = text.trim().replace(/^[^#]*#/, "")
  try {
    const decoded = decodeURIComponent(name).split("&")[0]
    return isValidAutomergeUrl(decoded) ? decoded : undefined
  } catch {
    return undefined
  }
}
