import { createHash } from "node:crypto"
import { readFileSync, readdirSync } from "node:fs"

import type { Plugin } from "vite"

/**
 * Finishes a build: the style goes into the page, a policy that allows nothing else is written, and the service worker gets
 * the list of files that make up this version.
 */
export function finish(): Plugin {
  return {
    name: "tasks-finish",
    apply: "build",
    enforce: "post",
    generateBundle(_, bundle) {
      const page = bundle["index.html"]
      if (page?.type !== "asset") throw new Error("the build has no index.html")
      let html = String(page.source)

      for (const [name, file] of Object.entries(bundle)) {
        if (file.type !== "asset" || !name.endsWith(".css")) continue
        const style = String(file.source).trim()
        const link = new RegExp(`<link rel="stylesheet"[^>]*href="/${name}"[^>]*>`)
        if (!link.test(html)) throw new Error(`index.html does not link ${name}`)
        html = html.replace(link, () => `<style>${style}</style>`)
        html = html.replace("style-src 'self'", `style-src '${hash(style)}'`)
        delete bundle[name]
      }
      page.source = html

      const version = createHash("sha256")
      const files = ["/"]
      for (const [name, file] of Object.entries(bundle).sort()) {
        version.update(name).update(file.type === "asset" ? file.source : file.code)
        if (name !== "index.html") files.push(`/${name}`)
      }
      for (const name of readdirSync("public").sort()) {
        version.update(name).update(readFileSync(`public/${name}`))
        files.push(`/${name}`)
      }
      const worker = readFileSync("src/worker.js", "utf8")
      version.update(worker)
      const source = worker
        .replace('"VERSION"', JSON.stringify(version.digest("hex").slice(0, 16)))
        .replace('["FILES"]', JSON.stringify(files))
      this.emitFile({ type: "asset", fileName: "sw.js", source })
    },
  }
}

function hash(text: string): string {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`
}
