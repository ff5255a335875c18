import react from "@vitejs/plugin-react"
import { defineConfig } from "vite"

import { finish } from "./precache.ts"

export default defineConfig({
  plugins: [react(), finish()],
  resolve: {
    // The usual build of cbor-x compiles code at run time, which the content security policy forbids.
    alias: [{ find: /^cbor-x$/, replacement: "cbor-x/index-no-eval" }],
  },
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1000,
  },
})
