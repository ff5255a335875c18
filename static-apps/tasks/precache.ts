import { createHash } from "node:crypto"
import { readFileSync, readdirSync } from "node:fs"

import type { Plugin } from "vite"

/**
 * Finishes a build: the style goes into the page, and a script of one line that asks for what a list needs before the others
 * are there; a policy that allows nothing else is written; and the service worker gets the list of files that make up this
 * version.
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

      const core = Object.values(bundle).find(file => file.type === "chunk" && file.name === "core")
      const wasm = Object.values(bundle).find(file => file.type === "asset" && file.fileName.endsWith(".wasm"))
      if (!core || wasm?.type !== "asset") throw new Error("the build has no core chunk, or no WebAssembly")
      wasm.source = withoutNames(Buffer.from(wasm.source))
      const links = [
        { rel: "preload", as: "fetch", href: `/${wasm.fileName}`, crossOrigin: "" },
        { rel: "modulepreload", href: `/${core.fileName}`, crossOrigin: "" },
      ]
      const append = 'document.head.append(Object.assign(document.createElement("link"),link))'
      const early = `if(location.hash)for(const link of ${JSON.stringify(links)})${append}`
      html = html.replace("<title>", () => `<script>${early}</script>\n<title>`)
      html = html.replace("script-src 'self'", `script-src 'self' '${hash(early)}'`)
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

/** WebAssembly without its custom sections: a tenth of it is names, for debuggers. */
function withoutNames(wasm: Buffer): Buffer {
  const kept = [wasm.subarray(0, 8)]
  for (let start = 8, end; start < wasm.length; start = end) {
    let at = start + 1
    let size = 0
    // LEB128: seven bits a byte, the lowest first, the last byte without the eighth.
    for (let shift = 0; ; shift += 7) {
      const byte = wasm.readUInt8(at++)
      size |= (byte & 127) << shift
      if (byte < 128) break
    }
    end = at + size
    if (wasm[start] !== 0) kept.push(wasm.subarray(start, end))
  }
  return Buffer.concat(kept)
}

function hash(text: string): string {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`
}
