// What `kube new` writes, as its readers use it: installed, built and copied; and on the dev server.
import assert from "node:assert/strict"
import { execFile, spawn } from "node:child_process"
import { cp, readFile } from "node:fs/promises"
import { join } from "node:path"
import { after, before, beforeEach, test } from "node:test"
import { promisify } from "node:util"

import axe from "axe-core"

import { Tab } from "./app.js"
import { BINARY, Kube, eventually } from "./kube.js"

const run = promisify(execFile)

let kube, project, deployed
before(async () => {
  kube = await Kube.start()
  project = join(kube.folder, "notes")
  deployed = kube.url.replace("tasks", "notes")
  await run(BINARY, ["new", project])
  await run("npm", ["ci", "--prefer-offline", "--no-audit", "--no-fund"], { cwd: project })
  await run("npm", ["run", "build"], { cwd: project })
  await cp(join(project, "dist"), join(kube.folder, "data/apps/notes"), { recursive: true })
})
after(() => kube?.stop())
beforeEach(() => void kube.turn++)

/** One tab with a board. */
class Board extends Tab {
  static async open(context, url) {
    const board = new Board(await context.newPage())
    // It may not be served yet, or not be optimized by the dev server.
    await eventually(`${url} is there`, () => board.page.goto(url))
    return board
  }

  async add(text) {
    const field = this.page.getByLabel("New note")
    await field.fill(text)
    await field.press("Enter")
  }

  async texts() {
    return this.page.locator("li span").allInnerTexts()
  }

  async is(status) {
    await this.page.locator(`#status[data-status="${status}"]`).waitFor()
  }
}

test("two browsers share what they type, also what they typed offline", async () => {
  const [ada, ben] = await kube.browsers("ada", "ben")
  const one = await Board.open(ada, deployed)
  await one.add("Bread")
  await one.is("saved")
  const two = await Board.open(ben, one.url)
  await two.shows("Bread")
  await two.add("Plums")
  await one.shows("Bread", "Plums")

  // Whoever is writing stays there, whatever the others do.
  await one.page.getByRole("button", { name: "Remove Plums" }).focus()
  await two.page.getByRole("button", { name: "Remove Bread" }).click()
  await one.shows("Plums")
  assert.equal(await one.page.evaluate(() => document.activeElement.ariaLabel), "Remove Plums")

  await two.page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined))
  await Promise.all([ada.setOffline(true), ben.setOffline(true)])
  await Promise.all([one.is("offline-saved"), two.is("offline-saved")])
  await one.add("by Ada")
  await two.add("by Ben")
  await two.is("offline-kept")
  await two.page.reload()
  await two.shows("Plums", "by Ben")
  await Promise.all([ada.setOffline(false), ben.setOffline(false)])
  await Promise.all([one.is("saved"), two.is("saved")])
  await eventually("both have all", async () => (await one.texts()).length === 3 && (await two.texts()).length === 3)
  assert.deepEqual(await one.texts(), await two.texts())

  // At the bare address is the board that was open last; a new one is a link away.
  const again = await Board.open(ada, deployed)
  await again.shows(...(await one.texts()))
  await again.page.getByRole("link", { name: "New board" }).click()
  await again.shows()
  await again.add("alone")
  await again.shows("alone")
  assert.notEqual(again.url, one.url)
  for (const board of [one, two, again]) board.isSound()
  await Promise.all([ada.close(), ben.close()])
})

test("the dev server syncs with the same KUBE", async () => {
  const config = await readFile(join(kube.folder, "kube.toml"), "utf8")
  const [, http] = /^http = \["127\.0\.0\.1:(\d+)"\]/m.exec(config)
  const vite = spawn("node", ["node_modules/vite/bin/vite.js", "--port", "0"], {
    cwd: project,
    env: { ...process.env, NO_COLOR: "1", KUBE: `http://localhost:${http}` },
    stdio: ["ignore", "pipe", "inherit"],
  })
  try {
    let said = ""
    vite.stdout.on("data", data => (said += data))
    const [, url] = await eventually("the dev server is there", async () => /Local: +(http\S+)/.exec(said))
    const [ada, ben] = await kube.browsers("ada", "ben")
    const one = await Board.open(ada, url)
    await one.add("from the dev server")
    await one.is("saved")
    const two = await Board.open(ben, `${deployed}/${new URL(one.url).hash}`)
    await two.shows("from the dev server")
    await two.add("from the app")
    await one.shows("from the dev server", "from the app")
    two.isSound()
    await Promise.all([ada.close(), ben.close()])
  } finally {
    vite.kill()
  }
})

test("axe finds nothing, in light and dark, on a phone, and at a link that leads nowhere", async () => {
  for (const colorScheme of ["light", "dark"]) {
    const ada = await kube.browser(`look-${colorScheme}`, { colorScheme, viewport: { width: 390, height: 844 } })
    for (const hash of ["", "#nothing"]) {
      const board = await Board.open(ada, `${deployed}/${hash}`)
      if (!hash) await board.add("A longer note, that needs more than one line on the screen of a phone")
      if (!hash) await board.is("saved")
      else await board.page.getByText("This link does not lead to a board.").waitFor()
      await board.page.evaluate(axe.source)
      const { violations } = await board.page.evaluate(() => window.axe.run())
      assert.deepEqual(violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html)]), [])
      if (process.env.PICTURES) await board.page.screenshot({ path: join(process.env.PICTURES, `new-${colorScheme}${hash.slice(1)}.png`) })
    }
    await ada.close()
  }
})
