/** Pure: from facts to what may be claimed. */

/** What is known about one document. */
export interface Facts {
  /** The connection to the KUBE. */
  link: "trying" | "connected" | "offline"
  /** Where our last change is on this device: being written, on its disk, or refused by it. */
  device: "writing" | "kept" | "refused"
  /** Our heads. */
  ours: readonly string[]
  /** The heads that the KUBE last announced; none when it has said nothing in this session. */
  theirs: readonly string[] | undefined
}

/**
 * What a person may be told.
 *
 * - `saved`: connected, and the KUBE has announced exactly our heads.
 * - `saving`: connected, and it has not yet.
 * - `connecting`: the first attempt is under way.
 * - `offline-saved`: no connection, and nothing has changed here since the KUBE announced our heads.
 * - `offline-kept`: no connection; the changes are on the disk of this device.
 * - `offline-writing`: no connection; the changes are on their way to that disk.
 * - `refused`: this device cannot keep the changes, and the KUBE has not announced them.
 */
export type Status =
  | "saved"
  | "saving"
  | "connecting"
  | "offline-saved"
  | "offline-kept"
  | "offline-writing"
  | "refused"

/** Says what the facts allow to say. */
export function judge({ link, device, ours, theirs }: Facts): Status {
  const isSaved = theirs !== undefined && sameHeads(ours, theirs)
  if (link === "connected" && isSaved) return "saved"
  if (device === "refused" && !isSaved) return "refused"
  if (link === "connected") return "saving"
  if (link === "trying") return "connecting"
  if (isSaved) return "offline-saved"
  return device === "kept" ? "offline-kept" : "offline-writing"
}

/** The status in words for a person. */
export function sentence(status: Status): string {
  return SENTENCES[status]
}

const SENTENCES: Record<Status, string> = {
  saved: "Saved on your KUBE",
  saving: "Saving…",
  connecting: "Connecting…",
  "offline-saved": "Offline · all saved on your KUBE",
  "offline-kept": "Offline · kept on this device",
  "offline-writing": "Offline · saving on this device…",
  refused: "Not saved: this device cannot store changes",
}

/** Heads are a set. No heads at all are an empty document, which is never "saved". */
function sameHeads(a: readonly string[], b: readonly string[]): boolean {
  return a.length > 0 && a.length === b.length && a.every(head => b.includes(head))
}
