import assert from "node:assert/strict"
import { cp, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { after, before, beforeEach, test } from "node:test"

import axe from "axe-core"

import { Tab } from "./app.js"
import { DIST, Kube, eventually } from "./kube.js"

let kube
before(async () => (kube = await Kube.start()))
after(() => kube?.stop())
beforeEach(() => void kube.turn++)

test("two people who are never there together exchange a list", async () => {
  let ada = await kube.browser("ada")
  const made = await Tab.make(ada, kube, "Groceries", ["Bread", "Oat milk"])
  await made.is("saved")
  const { url } = made
  made.isSound()
  await ada.close()

  const ben = await kube.browser("ben")
  const read = await Tab.open(ben, url)
  await read.shows("Bread", "Oat milk")
  await read.add("Plums")
  await read.mark("Bread")
  await read.is("saved")
  read.isSound()
  await ben.close()

  ada = await kube.browser("ada")
  const again = await Tab.open(ada, url)
  await again.shows("Bread", "Oat milk", "Plums")
  assert.ok(await again.row("Bread").getByRole("checkbox").isChecked())
  assert.equal(await again.page.getByLabel("Name of the list").inputValue(), "Groceries")
  again.isSound()
  await ada.close()
})

test("edits of the same item on both sides, both offline, converge and keep both", async () => {
  const [ada, ben] = await kube.browsers("ada", "ben")
  const one = await Tab.make(ada, kube, "Trip", ["Book the train"])
  await one.is("saved")
  const two = await Tab.open(ben, one.url)
  await two.shows("Book the train")
  await two.is("saved")

  await Promise.all([ada.setOffline(true), ben.setOffline(true)])
  await Promise.all([one.is("offline-saved"), two.is("offline-saved")])
  await one.edit("Book the train", "Book the night train")
  await two.edit("Book the train", "Book the train to Ghent")
  await two.add("Pack")
  await Promise.all([one.is("offline-kept"), two.is("offline-kept")])
  // A reload without any network: the app and the list are on the device.
  await two.page.reload()
  await two.shows("Book the train to Ghent", "Pack")

  await Promise.all([ada.setOffline(false), ben.setOffline(false)])
  await one.shows("Book the night train to Ghent", "Pack")
  await two.shows("Book the night train to Ghent", "Pack")
  await Promise.all([one.is("saved"), two.is("saved")])
  one.isSound()
  two.isSound()
  await Promise.all([ada.close(), ben.close()])
})

test("a tab that is killed loses nothing that was said to be saved or kept", async () => {
  const ada = await kube.browser("ada")
  const keeper = await ada.newPage()
  let tab = await Tab.make(ada, kube, "Killed", ["saved on the KUBE"])
  await tab.is("saved")
  const { url } = tab
  await tab.add("in flight")
  await tab.crash()

  tab = await Tab.open(ada, url)
  await tab.row("saved on the KUBE").waitFor()
  await tab.is("saved")
  await ada.setOffline(true)
  await tab.is("offline-saved")
  await tab.add("kept on the device")
  await tab.is("offline-kept")
  await tab.crash()

  tab = await Tab.open(ada, url)
  await tab.row("kept on the device").waitFor()
  await ada.setOffline(false)
  await tab.is("saved")
  const all = await tab.texts()
  tab.isSound()
  await keeper.close()
  await ada.close()

  const ben = await kube.browser("ben")
  const read = await Tab.open(ben, url)
  await read.shows(...all)
  await ben.close()
})

test("a KUBE that is killed under open tabs has what it said it has, and gets the rest when it is back", async () => {
  const [ada, ben] = await kube.browsers("ada", "ben")
  const one = await Tab.make(ada, kube, "Outage", ["before"])
  await one.is("saved")
  const two = await Tab.open(ben, one.url)
  await two.shows("before")

  await one.add("just before")
  await one.is("saved")
  await kube.kill()
  await Promise.all([one.page.locator('.status[data-status^="offline"]').waitFor(), two.page.locator('.status[data-status^="offline"]').waitFor()])
  await one.add("during, by Ada")
  await two.add("during, by Ben")
  await Promise.all([one.is("offline-kept"), two.is("offline-kept")])

  await kube.run()
  await Promise.all([one.is("saved"), two.is("saved")])
  await eventually("both have all", async () => (await one.texts()).length === 4 && (await two.texts()).length === 4)
  assert.deepEqual(await one.texts(), await two.texts())
  one.isSound()
  two.isSound()
  await Promise.all([ada.close(), ben.close()])
})

test("three tabs of one browser, and another browser, show the same, and who is here", async () => {
  const [ada, ben] = await kube.browsers("ada", "ben")
  const first = await Tab.make(ada, kube, "Tabs", ["one"])
  const tabs = [first, await Tab.open(ada, first.url), await Tab.open(ada, first.url)]
  for (const [index, tab] of tabs.entries()) await tab.add(`from tab ${index}`)
  const expected = ["one", "from tab 0", "from tab 1", "from tab 2"]
  for (const tab of tabs) await tab.shows(...expected)

  const other = await Tab.open(ben, first.url)
  await other.shows(...expected)
  await other.page.getByLabel("You are").fill("Ben")
  await other.page.getByLabel("You are").press("Enter")
  await first.page.locator(".person", { hasText: "Ben" }).waitFor()
  // Three tabs are one person.
  await other.page.locator(".person").first().waitFor()
  assert.equal(await other.page.locator(".person").count(), 1)
  await other.row("one").locator(".text").click()
  await first.page.getByText("Ben is editing").waitFor()
  await other.page.keyboard.press("Escape")
  await other.page.close()
  await first.page.locator(".person").waitFor({ state: "detached" })

  // Without any network, tabs of one browser still see each other.
  await ada.setOffline(true)
  await tabs[0].add("offline")
  await tabs[2].shows(...expected, "offline")
  await ada.setOffline(false)
  for (const tab of tabs) {
    await tab.is("saved")
    tab.isSound()
  }
  await Promise.all([ada.close(), ben.close()])
})

test("undo and redo are one's own, by keyboard", async () => {
  const ada = await kube.browser("ada")
  const tab = await Tab.make(ada, kube, "Undo", ["a", "b", "c"])
  await tab.row("b").getByRole("checkbox").focus()
  await tab.page.keyboard.press("Delete")
  await tab.shows("a", "c")
  assert.equal(await tab.page.evaluate(() => document.activeElement.closest(".row")?.innerText.trim()), "c")
  await tab.page.keyboard.press("Control+z")
  await tab.shows("a", "b", "c")
  await tab.page.keyboard.press("Control+Shift+z")
  await tab.shows("a", "c")
  await tab.page.keyboard.press("ArrowUp")
  await tab.page.keyboard.press("Space")
  assert.ok(await tab.row("a").getByRole("checkbox").isChecked())
  await tab.page.keyboard.press("Enter")
  await tab.page.keyboard.type("!")
  await tab.page.keyboard.press("Enter")
  await tab.shows("a!", "c")
  await tab.page.keyboard.press("n")
  assert.equal(await tab.page.evaluate(() => document.activeElement.getAttribute("aria-label")), "New task")
  tab.isSound()
  await ada.close()
})

test("an edit that ends after someone else's keeps both, and undo takes back one's own", async () => {
  const [ada, ben] = await kube.browsers("ada", "ben")
  const one = await Tab.make(ada, kube, "Merge", ["first", "Book the train"])
  await one.is("saved")
  const two = await Tab.open(ben, one.url)
  await two.row("Book the train").locator(".text").click()
  await one.edit("Book the train", "Book the night train")
  await one.row("first").getByRole("button", { name: "Delete first" }).click()
  await eventually("Ben has it", async () => (await two.page.locator(".items .row").count()) === 1)
  await two.page.locator(".items textarea").fill("Book the train to Ghent")
  await two.page.keyboard.press("Enter")
  await Promise.all([one.shows("Book the night train to Ghent"), two.shows("Book the night train to Ghent")])
  await two.page.keyboard.press("Control+z")
  await Promise.all([one.shows("Book the night train"), two.shows("Book the night train")])
  one.isSound()
  two.isSound()
  await Promise.all([ada.close(), ben.close()])
})

test("a new version is offered, and taking it loses nothing", async () => {
  const ada = await kube.browser("ada")
  const tab = await Tab.make(ada, kube, "Update", ["kept"])
  await tab.is("saved")
  const other = await Tab.open(ada, tab.url)
  await other.shows("kept")
  await tab.page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined))

  const next = join(kube.folder, "next")
  await cp(DIST, next, { recursive: true })
  const replace = async (name, from, to) => {
    const path = join(next, name)
    const text = await readFile(path, "utf8")
    assert.match(text, from)
    await writeFile(path, text.replace(from, to))
  }
  await replace("sw.js", /"tasks-" \+ "/, '"tasks-" + "2-')
  await replace("index.html", /<title>/, '<meta name="generation" content="2"><title>')
  await kube.deploy(next)

  await tab.page.getByLabel("New task").fill("half a thou")
  await eventually("the new version is offered", async () => {
    await tab.page.evaluate(async () => void (await (await navigator.serviceWorker.getRegistration()).update()))
    return tab.page.getByText("A new version is ready.").isVisible()
  })
  assert.equal(await tab.page.locator("meta[name=generation]").count(), 0)
  await tab.page.getByRole("button", { name: "Update now" }).click()
  await tab.page.locator("meta[name=generation]").waitFor({ state: "attached" })
  await tab.shows("kept")
  assert.equal(await tab.page.getByLabel("New task").inputValue(), "half a thou")

  // The other tab was left in peace, works on, and can follow.
  assert.equal(await other.page.locator("meta[name=generation]").count(), 0)
  await other.add("still works")
  await tab.shows("kept", "still works")
  await other.page.getByRole("button", { name: "Update now" }).click()
  await other.page.locator("meta[name=generation]").waitFor({ state: "attached" })
  const caches = await tab.page.evaluate(() => caches.keys())
  assert.equal(caches.length, 1)
  tab.isSound()
  other.isSound()
  await ada.close()
  await kube.deploy(DIST)
})

test("a list of 5,000 stays usable", async t => {
  const ada = await kube.browser("ada")
  const tab = await Tab.make(ada, kube, "Five thousand", [])
  const texts = Array.from({ length: 5000 }, (_, index) => `Task number ${index + 1}`)
  const rows = tab.page.locator(".items .row")
  const start = Date.now()
  await tab.paste(texts)
  await rows.nth(4999).waitFor({ state: "attached" })
  t.diagnostic(`5,000 tasks pasted and drawn in ${Date.now() - start} ms`)
  await tab.is("saved")
  t.diagnostic(`and saved on the KUBE after ${Date.now() - start} ms`)

  await tab.page.evaluate(() => {
    window.inputs = []
    const observer = new PerformanceObserver(list => {
      for (const { name, duration } of list.getEntries())
        if (["click", "keydown"].includes(name)) window.inputs.push({ name, duration })
    })
    observer.observe({ type: "event", durationThreshold: 16 })
  })
  // As long as a finger is on it.
  for (let index = 1; index <= 10; index++) await rows.nth(index).getByRole("checkbox").click({ delay: 60 })
  await tab.is("saved")
  // From one block of rows to the next.
  await rows.nth(49).getByRole("checkbox").focus()
  await tab.page.keyboard.press("ArrowDown")
  assert.equal(await tab.page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Done: Task number 51")
  // Not by its label: a search for labels keeps such a page busy for seconds.
  const field = tab.page.locator(".new input")
  await field.pressSequentially("typed slowly", { delay: 20 })
  await field.press("Enter")
  await rows.nth(5000).waitFor({ state: "attached" })
  await tab.is("saved")
  const inputs = await tab.page.evaluate(() => window.inputs)
  for (const name of ["click", "keydown"]) {
    const times = inputs.filter(input => input.name === name).map(input => input.duration).sort((a, b) => a - b)
    const [median, worst] = times.length ? [times[times.length >> 1], times.at(-1)] : ["under 16", "under 16"]
    t.diagnostic(`input to paint, ${name}: median ${median} ms, worst ${worst} ms (${times.length} over 16 ms)`)
  }
  const reload = Date.now()
  await tab.page.reload()
  await rows.nth(5000).waitFor({ state: "attached" })
  t.diagnostic(`opened again in ${Date.now() - reload} ms`)
  tab.isSound()
  await ada.close()
})

test("axe finds nothing, in light and dark, wide and narrow, and pictures are taken", async () => {
  const looks = [
    ["light", { colorScheme: "light" }],
    ["dark", { colorScheme: "dark" }],
    ["phone", { colorScheme: "light", viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true }],
  ]
  const ben = await kube.browser("ben")
  for (const [look, options] of looks) {
    const ada = await kube.browser(look, options)
    const check = async (tab, part) => {
      await tab.page.evaluate(axe.source)
      const { violations } = await tab.page.evaluate(() => window.axe.run())
      const found = violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`))
      assert.deepEqual(found, [], `${part}, ${look}`)
    }
    const tab = await Tab.open(ada, kube.url)
    await tab.page.getByRole("button", { name: "New list" }).waitFor()
    await check(tab, "the first page without lists")
    const texts = ["Book the train to Ghent", "Ask Noor about the keys", "Tent, the green one", "Coffee, the good one, for six people and two mornings", "Return the library books", "Water the plants"]
    await tab.page.getByRole("button", { name: "New list" }).click()
    await tab.page.getByText("Nothing to do yet.").waitFor()
    await check(tab, "an empty list")
    await tab.rename("A weekend in the Ardennes")
    for (const text of texts) await tab.add(text)
    await tab.mark("Return the library")
    await tab.mark("Book the train")
    await tab.page.getByLabel("You are").fill("Ada")
    await tab.page.getByLabel("You are").press("Enter")
    const other = await Tab.open(ben, tab.url)
    await other.row("Water the plants").waitFor()
    await other.page.getByLabel("You are").fill("Ben")
    await other.page.getByLabel("You are").press("Enter")
    await other.row("Ask Noor").locator(".text").click()
    await tab.page.getByText("Ben is editing").waitFor()
    await tab.is("saved")
    await tab.page.evaluate(() => document.activeElement.blur())
    await tab.page.locator(".live.shown").waitFor({ state: "detached" })
    await check(tab, "a list")
    if (process.env.PICTURES) await tab.page.screenshot({ path: join(process.env.PICTURES, `tasks-${look}.png`) })
    await tab.row("Tent").locator(".text").click()
    await check(tab, "an edit")
    await tab.page.keyboard.press("Escape")
    await tab.page.goto(kube.url)
    await tab.page.getByText("Opened on this device").waitFor()
    await check(tab, "the first page")
    if (process.env.PICTURES) await tab.page.screenshot({ path: join(process.env.PICTURES, `tasks-home-${look}.png`) })
    tab.isSound()
    await Promise.all([ada.close(), other.page.close()])
  }
  await ben.close()
})

test("a link to a list that nobody has says so, and so does one that is opened offline", async () => {
  const ada = await kube.browser("ada")
  const tab = await Tab.open(ada, `${kube.url}/#automerge:4NMNnkMhL8jXrdJ9jamS58PAVdXu`)
  await tab.page.getByText("Your KUBE does not know this list.").waitFor()
  await ada.setOffline(true)
  await tab.page.getByText("This list is not on this device yet.").waitFor()
  tab.isSound()
  await ada.close()
})
