// Lists what this KUBE serves, and follows it. Without an answer (the list is switched off) the section stays hidden.
const section = document.querySelector("#apps")
const list = section.querySelector(".apps")
let shown = ""

async function show() {
  if (document.hidden) return
  const response = await fetch("/.well-known/kube/apps", { cache: "no-store" })
  if (!response.ok || !response.headers.get("content-type")?.startsWith("application/json")) {
    section.hidden = true
    return
  }
  const text = await response.text()
  if (text === shown) return
  shown = text
  const own = location.origin + "/"
  const others = JSON.parse(text).apps.filter((app) => app.url !== own)
  list.replaceChildren(...others.map(row))
  section.hidden = others.length === 0
}

function row({ name, url }) {
  const item = document.createElement("li")
  const label = document.createElement("strong")
  label.textContent = name
  const link = document.createElement("a")
  link.href = url
  link.textContent = new URL(url).host
  item.append(label, link)
  return item
}

// An answer that does not come is asked for again; what is shown stays.
const again = () => show().catch(() => {})
again()
setInterval(again, 3000)
document.addEventListener("visibilitychange", again)
