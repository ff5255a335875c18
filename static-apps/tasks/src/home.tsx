import { useState } from "react"

import { forget, recents } from "./device.ts"
import { Mark } from "./mark.tsx"

/** The first page: the lists of this browser. */
export function Home({ onNew }: { onNew: () => Promise<void> }) {
  const [lists, setLists] = useState(recents)
  return (
    <>
      <header className="top">
        <Mark />
      </header>
      <main id="main" className="home">
        <h1>Lists that are there when you are.</h1>
        <p className="lead">
          Make a list and send its link: whoever has it works on the same list, at the same time or days apart. It works
          offline, and everything ends up on your KUBE.
        </p>
        <p>
          <button type="button" className="strong" onClick={() => void onNew()}>
            New list
          </button>
        </p>
        {lists.length > 0 && (
          <section aria-labelledby="yours">
            <h2 id="yours">Opened on this device</h2>
            <ul className="lists">
              {lists.map(({ url, title }) => (
                <li key={url}>
                  <a href={`#${url}`}>{title || "Untitled"}</a>
                  <button
                    type="button"
                    className="quiet"
                    aria-label={`Forget “${title}” on this device`}
                    title="Forget on this device; the list stays"
                    onClick={() => {
                      forget(url)
                      setLists(recents())
                    }}
                  >
                    Forget
                  </button>
                </li>
              ))}
            </ul>
          </section>
        )}
      </main>
    </>
  )
}
