import { readFile, readdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"
import { brotliCompress, constants, gzip } from "node:zlib"

import type { Plugin } from "vite"

/** Below this a packet is a packet, in bytes. */
const SMALLEST = 1024
/** What has to be left of a file at most, for its compressed form to be worth its place. */
const WORTH = 0.9

/**
 * Writes `x.br` and `x.gz` beside every `x` of `assets` that is text or WebAssembly: a server that knows them sends those.
 * Only there, where a name changes with its content: who edits a page of a build would else be sent what it was before.
 */
export function compress(): Plugin {
  let folder: string
  return {
    name: "tasks-compress",
    apply: "build",
    configResolved(config) {
      folder = join(config.build.outDir, config.build.assetsDir)
    },
    async closeBundle() {
      const names = (await readdir(folder)).filter(name => /\.(css|js|json|svg|wasm)$/.test(name))
      await Promise.all(names.map(async name => {
        const path = join(folder, name)
        const content = await readFile(path)
        if (content.length < SMALLEST) return
        const forms = {
          br: await promisify(brotliCompress)(content, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: content.length } }),
          gz: await promisify(gzip)(content, { level: 9 }),
        }
        for (const [ending, form] of Object.entries(forms)) {
          if (form.length < content.length * WORTH) await writeFile(`${path}.${ending}`, form)
        }
      }))
    },
  }
}
