/** Pure: undo and redo of one person's own steps; what others do stays. */
import type { Step } from "./model.ts"

/** How many steps are remembered. */
const DEPTH = 200

/** Takes a step, and returns the one back, or nothing when it had no meaning any more. */
export type Take = (step: Step) => Step | undefined

/** The steps of this tab. */
export class History {
  #back: Step[] = []
  #forth: Step[] = []

  /** Whether there is a step to undo. */
  get canUndo(): boolean {
    return this.#back.length > 0
  }

  /** Whether there is an undone step to do again. */
  get canRedo(): boolean {
    return this.#forth.length > 0
  }

  /** Takes a new step; whether it had a meaning. */
  does(step: Step, take: Take): boolean {
    const back = take(step)
    if (!back) return false
    this.did(back)
    return true
  }

  /** Remembers the way back from a step that was taken elsewhere. */
  did(back: Step): void {
    this.#back.push(back)
    if (this.#back.length > DEPTH) this.#back.shift()
    this.#forth = []
  }

  /** Undoes the last step that can still be undone, and returns what was done for it. */
  undo(take: Take): Step | undefined {
    return move(this.#back, this.#forth, take)
  }

  /** Does the last undone step again, and returns it. */
  redo(take: Take): Step | undefined {
    return move(this.#forth, this.#back, take)
  }
}

function move(from: Step[], to: Step[], take: Take): Step | undefined {
  for (let step = from.pop(); step; step = from.pop()) {
    const back = take(step)
    if (!back) continue
    to.push(back)
    return step
  }
  return undefined
}
