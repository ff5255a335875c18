import { Component, type ReactNode } from "react"

import { Mark } from "./mark.tsx"

/** What is seen when a part of the app fails: nothing is lost, what was written is in the document. */
export class Boundary extends Component<{ children: ReactNode }, { hasFailed: boolean }> {
  override state = { hasFailed: false }

  static getDerivedStateFromError() {
    return { hasFailed: true }
  }

  override render() {
    if (!this.state.hasFailed) return this.props.children
    return (
      <>
        <header className="top">
          <Mark />
        </header>
        <main id="main" role="alert">
          <h1>This page could not be shown.</h1>
          <p>
            <button type="button" className="strong" onClick={() => location.reload()}>
              Load it again
            </button>
          </p>
        </main>
      </>
    )
  }
}
