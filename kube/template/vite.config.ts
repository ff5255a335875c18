import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"

import { defineConfig, type Plugin } from "vite"

/** The KUBE that `npm run dev` syncs with: a local one, at its plain address, so that no certificate has to be trusted. */
const kube = process.env["KUBE"] ?? "http://localhost:8080"

export default defineConfig({
  plugins: [offline()],
  // The dev server has no /.well-known/kube/config, so the kit syncs on the page's own host, and from there it goes on.
  server: { proxy: { "/.well-known/kube/sync": { target: kube, ws: true, changeOrigin: true } } },
})

/** Ends a build: the service worker gets the list of the files that it keeps. */
function offline(): Plugin {
  return {
    name: "offline",
    apply: "build",
    enforce: "post",
    generateBundle(_, bundle) {
      const page = bundle["index.html"]
      if (page?.type !== "asset") throw new Error("the build has no index.html")
      const files = ["/", ...Object.keys(bundle).filter(name => name !== "index.html").map(name => `/${name}`)]
      const version = createHash("sha256").update(page.source).digest("hex").slice(0, 16)
      const worker = readFileSync("src/worker.js", "utf8")
      const source = worker.replace('"VERSION"', `"${version}"`).replace('["FILES"]', JSON.stringify(files))
      this.emitFile({ type: "asset", fileName: "worker.js", source })
    },
  }
}
