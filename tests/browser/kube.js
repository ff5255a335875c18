// A KUBE with the tasks app, from outside: its folder, its process, and browsers that trust it.
import { execFile, spawn } from "node:child_process"
import { randomInt } from "node:crypto"
import { once } from "node:events"
import { cp, mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { promisify } from "node:util"

import { chromium } from "playwright-core"

const run = promisify(execFile)
const root = resolve(import.meta.dirname, "../..")
/** The build of the app. */
export const DIST = join(root, "static-apps/tasks/dist")
/** The binary. */
export const BINARY = resolve(process.env.KUBE_BIN ?? join(root, "target/release/kube"))
const BROWSER = process.env.CHROMIUM ?? "/usr/bin/chromium"
/** How long anything may take, in milliseconds. */
export const PATIENCE = 20_000

/** Waits until `condition` returns something true, and returns that. */
export async function eventually(what, condition) {
  const end = Date.now() + PATIENCE
  for (;;) {
    const got = await condition().catch(error => void (error.code ?? error))
    if (got) return got
    if (Date.now() > end) throw new Error(`never: ${what}`)
    await new Promise(done => setTimeout(done, 25))
  }
}

/**
 * Free ports below those that the system gives to clients, and to whoever asks for any: nobody gets them while the KUBE is
 * down.
 */
async function freePorts(count) {
  const ports = new Set()
  while (ports.size < count) {
    const port = randomInt(10_000, 32_000)
    const server = createServer().listen(port, "127.0.0.1")
    const isFree = await once(server, "listening").then(() => true, () => false)
    if (isFree) await new Promise(done => server.close(done))
    if (isFree) ports.add(port)
  }
  return [...ports]
}

/** A KUBE on free ports, which stay its own when it is started again. */
export class Kube {
  #process
  #browsers = []
  log = ""
  /** The scenario: people of one are not those of another, so that a browser that is slow to go is in nobody's way. */
  turn = 0

  static async start() {
    const kube = new Kube()
    kube.folder = await mkdtemp(join(tmpdir(), "kube-browser-"))
    const [http, https, metrics] = await freePorts(3)
    kube.metrics = `http://127.0.0.1:${metrics}`
    kube.url = `https://tasks.localhost:${https}`
    await mkdir(join(kube.folder, "data/apps"), { recursive: true })
    await mkdir(join(kube.folder, "run"))
    const config = [
      'domain = "localhost"',
      'data = "data"',
      `[hosting]\nhttp = ["127.0.0.1:${http}"]\nhttps = ["127.0.0.1:${https}"]`,
      `[metrics]\nlisten = ["127.0.0.1:${metrics}"]`,
    ]
    await writeFile(join(kube.folder, "kube.toml"), config.join("\n"))
    await kube.deploy(DIST)
    await kube.run()
    await kube.trust()
    return kube
  }

  /** Puts a build where the KUBE serves it. */
  async deploy(build) {
    const incoming = join(this.folder, "incoming")
    const app = join(this.folder, "data/apps/tasks")
    await cp(build, incoming, { recursive: true })
    await rm(app, { recursive: true, force: true })
    await rename(incoming, app)
  }

  async run() {
    const child = spawn(BINARY, ["run", "--config", join(this.folder, "kube.toml")], {
      cwd: this.folder,
      env: { PATH: "/usr/local/bin:/usr/bin:/bin", HOME: this.folder, RUNTIME_DIRECTORY: join(this.folder, "run") },
      stdio: ["ignore", "pipe", "pipe"],
    })
    for (const stream of [child.stdout, child.stderr]) stream.on("data", data => (this.log += data))
    this.#process = child
    await once(child, "spawn")
    const isReady = async () => (await fetch(`${this.metrics}/readyz`)).ok
    await eventually("the KUBE is ready", isReady).catch(error => {
      throw new Error(`${error.message}: ${this.log}`)
    })
  }

  /** The process is gone at once, with whatever it was doing. */
  async kill() {
    const child = this.#process
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill("SIGKILL")
    await once(child, "exit")
  }

  /** A home folder whose browsers trust this KUBE's authority, as `kube trust` says. */
  async trust() {
    this.home = join(this.folder, "home")
    const store = join(this.home, ".pki/nssdb")
    await mkdir(store, { recursive: true })
    await run("certutil", ["-d", `sql:${store}`, "-N", "--empty-password"])
    const authority = join(this.folder, "data/tls/ca/localhost.pem")
    await eventually("the authority is there", () => readFile(authority))
    await run("certutil", ["-d", `sql:${store}`, "-A", "-t", "C,,", "-n", "kube", "-i", authority])
  }

  /** Opens the browser of one person: everything it keeps is in a folder of that name. */
  async browser(person, options = {}) {
    const profile = join(this.folder, `profile-${this.turn}-${person}`)
    const launch = () => chromium.launchPersistentContext(profile, {
      executablePath: BROWSER,
      headless: false,
      args: [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
      env: { ...process.env, HOME: this.home },
      viewport: { width: 1100, height: 800 },
      ...options,
    })
    // Opened again within a scenario, a profile may be held for a moment by the browser that was just closed.
    const context = await launch().catch(first => eventually(`a browser starts: ${first}`, launch))
    context.setDefaultTimeout(PATIENCE)
    // What the policy forbids, and code survives, is a fault all the same.
    await context.addInitScript(() => {
      addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI, sourceFile }) =>
        console.error("policy:", violatedDirective, blockedURI, sourceFile),
      )
    })
    this.#browsers.push(context)
    return context
  }

  /** Opens the browsers of several people. */
  browsers(...people) {
    return Promise.all(people.map(person => this.browser(person)))
  }

  async stop() {
    await Promise.all(this.#browsers.map(context => context.close().catch(() => {})))
    await this.kill()
    await rm(this.folder, { recursive: true, force: true, maxRetries: 5 })
  }
}
