/** Small things that are kept on this device, by name. */

/** Returns what is kept under this name. */
export function kept(name: string): string | undefined {
  try {
    return localStorage.getItem(name) ?? unkept.get(name)
  } catch {
    return unkept.get(name)
  }
}

/** Keeps this in place of what was there before. */
export function keep(name: string, value: string): void {
  unkept.set(name, value)
  try {
    localStorage.setItem(name, value)
  } catch {
    // Private windows may refuse: then it is known only while the page is open.
  }
}

const unkept = new Map<string, string>()
