/** Pure: from facts to what may be claimed. */

/** What is known about one document. */
export interface Facts {
  /** The connection to the KUBE: `denied` when it is there, and does not let us in. */
  link: "trying" | "connected" | "offline" | "denied"
  /** Where our last change is on this device: being written, on its disk, or refused by it. */
  device: "writing" | "kept" | "refused"
  /** Our heads. */
  ours: readonly string[]
  /** The heads that the KUBE last announced; none when it has said nothing in this session. */
  theirs: readonly string[] | undefined
  /** Whether the KUBE has said that it takes no changes of the document from here. */
  isReadOnly: boolean
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
 * - `denied`: the KUBE does not let us in; the changes are on the disk of this device, or on their way there.
 * - `read-only`: connected, and the KUBE does not take our changes; they are on the disk of this device, or on their way there.
 * - `refused`: this device cannot keep the changes, and the KUBE has not announced them.
 */
export type Status =
  | "saved"
  | "saving"
  | "connecting"
  | "offline-saved"
  | "offline-kept"
  | "offline-writing"
  | "denied"
  | "read-only"
  | "refused"

/** Says what the facts allow to say. */
export function judge({ link, device, ours, theirs, isReadOnly }: Facts): Status {
  const isSaved = theirs !== undefined && sameHeads(ours, theirs)
  if (link === "connected" && isSaved) return "saved"
  if (device === "refused" && !isSaved) return "refused"
  if (link === "connected") return isReadOnly ? "read-only" : "saving"
  if (link === "denied") return "denied"
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
  denied: "Your KUBE does not let this device in · kept here only",
  "read-only": "Your KUBE takes no changes from here · they stay on this device",
  refused: "Not saved: this device cannot store changes",
}

/** Heads are a set. No heads at all are an empty document, which is never "saved". */
function sameHeads(a: readonly string[], b: readonly string[]): boolean {
  return a.length > 0 && a.length === b.length && a.every(head => b.includes(head))
}
