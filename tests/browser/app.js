// The tasks app as a person sees it.
import assert from "node:assert/strict"

import { eventually } from "./kube.js"

/** What a browser says about a server that is not there, or has no config: not a fault of the page. */
const isNetwork = message =>
  /WebSocket connection to|net::ERR_/.test(message.text()) || message.location().url.endsWith("/.well-known/kube/config")

/** One tab. */
export class Tab {
  faults = []

  constructor(page) {
    this.page = page
    page.on("pageerror", error => this.faults.push(String(error.stack ?? error)))
    page.on("console", message => {
      if (message.type() === "error" && !isNetwork(message)) this.faults.push(message.text())
    })
  }

  /** Opens an address in a new tab. */
  static async open(context, url) {
    const tab = new Tab(await context.newPage())
    await tab.page.goto(url)
    return tab
  }

  /** Makes a list, with items. */
  static async make(context, kube, title, texts) {
    const tab = await Tab.open(context, kube.url)
    await tab.page.getByRole("button", { name: "New list" }).click()
    await tab.rename(title)
    for (const text of texts) await tab.add(text)
    return tab
  }

  get url() {
    return this.page.url()
  }

  async rename(title) {
    const field = this.page.getByLabel("Name of the list")
    await field.fill(title)
    await field.press("Enter")
  }

  async add(text) {
    const field = this.page.getByLabel("New task")
    await field.fill(text)
    await field.press("Enter")
  }

  /** Pastes lines into the field for new tasks. */
  async paste(lines) {
    await this.page.getByLabel("New task").evaluate((field, text) => {
      const clipboardData = new DataTransfer()
      clipboardData.setData("text/plain", text)
      field.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }))
    }, lines.join("\n"))
  }

  row(text) {
    return this.page.locator(".items .row").filter({ hasText: text })
  }

  async mark(text) {
    await this.row(text).getByRole("checkbox").click()
  }

  async edit(text, to) {
    await this.row(text).locator(".text").click()
    const field = this.page.locator(".items textarea")
    await field.fill(to)
    await field.press("Enter")
  }

  async texts() {
    return this.page.locator(".items .text").allInnerTexts()
  }

  /** Waits for a status: the claim that is made to people. */
  async is(status) {
    await this.page.locator(`.status[data-status="${status}"]`).waitFor({ state: "attached" })
  }

  async shows(...texts) {
    let got
    await eventually(`the list is ${JSON.stringify(texts)}`, async () => {
      got = await this.texts()
      return JSON.stringify(got) === JSON.stringify(texts)
    }).catch(() => assert.deepEqual(got, texts))
  }

  /** Nothing went wrong unseen. */
  isSound() {
    assert.deepEqual(this.faults, [])
  }

  /** The renderer dies, as when memory runs out. */
  async crash() {
    const session = await this.page.context().newCDPSession(this.page)
    const crashed = new Promise(done => this.page.once("crash", done))
    session.send("Page.crash").catch(() => {})
    await crashed
    await this.page.close().catch(() => {})
  }
}
