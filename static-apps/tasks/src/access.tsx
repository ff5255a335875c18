import { readToken, type Kube } from "@kube/kit"
import { useState, useSyncExternalStore, type FormEvent } from "react"

/** Why the KUBE does not let this device in, in its own words, and a field for what would; nothing when it does. */
export function Access({ kube }: { kube: Kube }) {
  const denied = useSyncExternalStore(
    listener => kube.onLink(listener),
    () => kube.link?.denied,
  )
  const [isWrong, setWrong] = useState(false)
  if (!denied) return null
  const use = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault()
    const token = readToken(String(new FormData(event.currentTarget).get("token")))
    setWrong(!token)
    if (token) kube.useToken(token)
  }
  return (
    <form className="access" onSubmit={use}>
      <p>Your KUBE says: {denied}.</p>
      <p>
        <label>
          A token, or a link with one{" "}
          <input name="token" required autoComplete="off" autoCapitalize="off" spellCheck={false} aria-invalid={isWrong} />
        </label>{" "}
        <button type="submit" className="strong">
          Use it
        </button>
      </p>
      {isWrong && <p role="alert">That is neither. A token begins with kube_sync_.</p>}
    </form>
  )
}
