/** What a screen reader should say, and everyone may read for a moment. */
type Listener = (text: string) => void

let listener: Listener = () => {}

/** Says something once. */
export function announce(text: string): void {
  listener(text)
}

/** Whoever speaks: one at a time. */
export function onAnnounce(next: Listener): void {
  listener = next
}
