import { resolve } from "node:path"

import react from "@vitejs/plugin-react"
import { defineConfig } from "vite"

import { compress } from "./compress.ts"
import { finish } from "./precache.ts"

export default defineConfig({
  plugins: [react(), finish(), compress()],
  resolve: {
    alias: [
      // The usual build of cbor-x compiles code at run time, which the content security policy forbids.
      { find: /^cbor-x$/, replacement: "cbor-x/index-no-eval" },
      // The build of the hooks has that, and half of automerge-repo once more, inside; their source has not.
      {
        find: /^@automerge\/automerge-repo-react-hooks$/,
        replacement: resolve(import.meta.dirname, "node_modules/@automerge/automerge-repo-react-hooks/src/index.ts"),
      },
    ],
  },
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1000,
  },
})
