import type { DocHandle } from "@automerge/automerge-repo/slim"
import { updateText } from "@automerge/automerge/slim"

import { announce } from "./announce.ts"
import { History } from "./history.ts"
import { describe, LONGEST, take, type Item, type List, type Step } from "./model.ts"

/** Writes in one list, and remembers how to undo it. */
export class Pen {
  #history = new History()

  constructor(private readonly handle: DocHandle<List>) {}

  /** Whether there is a step to undo. */
  get canUndo(): boolean {
    return this.#history.canUndo
  }

  /** Whether there is an undone step to do again. */
  get canRedo(): boolean {
    return this.#history.canRedo
  }

  /** Takes a step. */
  does(step: Step): void {
    this.#history.does(step, this.#take)
  }

  /** Undoes the last step that still means something. */
  undo(): void {
    const step = this.#history.undo(this.#take)
    announce(step ? `Undone. ${describe(step)}.` : "Nothing to undo.")
  }

  /** Does the last undone step again. */
  redo(): void {
    const step = this.#history.redo(this.#take)
    announce(step ? `Done again. ${describe(step)}.` : "Nothing to do again.")
  }

  /** Begins an edit of a text; the result ends it with the new text, or with nothing when it is given up. */
  edit({ id, text: from }: Item): (text: string | undefined) => void {
    const heads = this.handle.heads()
    return text => {
      const to = text?.replace(/\s+/g, " ").trim().slice(0, LONGEST)
      if (to === undefined || to === from) return
      if (to === "") return this.does({ does: "remove", ids: [id] })
      const now = this.#text(id)
      if (now === undefined) return announce("Someone has deleted this task.")
      if (now !== from) {
        // Someone has changed it meanwhile: both changes are kept, as if this one had been made when it was begun.
        const index = this.handle.view(heads).doc().items.findIndex(item => item.id === id)
        this.handle.changeAt(heads, list => updateText(list, ["items", index, "text"], to))
        const merged = this.#text(id)
        if (merged !== undefined) this.#history.did({ does: "text", id, from: merged, to: now })
        return
      }
      this.does({ does: "text", id, from, to })
    }
  }

  #take = (step: Step): Step | undefined => {
    const before = this.handle.doc()
    let back: Step | undefined
    this.handle.change(list => {
      back = take(before, list, step)
    })
    return back
  }

  #text(id: string): string | undefined {
    return this.handle.doc().items.find(item => item.id === id)?.text
  }
}
