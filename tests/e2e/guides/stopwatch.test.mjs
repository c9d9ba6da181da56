// How long it takes from the built binary to a first message, by the README's own commands, with a home that nobody has used:
// in a browser, in Node, by curl. The seconds are printed with each test.

import assert from "node:assert/strict"
import {spawn} from "node:child_process"
import {mkdtempSync, rmSync, symlinkSync, writeFileSync} from "node:fs"
import {tmpdir} from "node:os"
import {join} from "node:path"
import {afterEach, beforeEach, describe, test} from "node:test"
import {fileURLToPath} from "node:url"
import {chromium} from "playwright-core"
import {ARGS} from "../support/browser.mjs"
import {eventually, within} from "../support/deadline.mjs"
import {readmeBlocks} from "../support/guide.mjs"
import {linesOf} from "../support/lines.mjs"
import {visitLobby} from "../support/lobby.mjs"
import {startDev} from "../support/process.mjs"

const SECONDS_MAX = 15
const MODULES = fileURLToPath(new URL("../node_modules", import.meta.url))
// Node has one from version 22 on, as the README says.
const WITH_WEBSOCKET = 'import WebSocketOfNode from "ws"; globalThis.WebSocket ??= WebSocketOfNode\n'

describe("the first message", () => {
  let home, env, server, running
  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), "fanfare-first-"))
    env = {PATH: process.env.PATH, HOME: home}
    running = []
  })
  afterEach(async () => {
    running.forEach(child => child.kill("SIGKILL"))
    await server?.remove()
    rmSync(home, {recursive: true, force: true})
  })

  timed("in a browser", async () => {
    server = await startDev(home, env)
    const browser = await chromium.launch({executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGS, env})
    try {
      const [ann, bob] = [await visitLobby(browser, server, "Ann"), await visitLobby(browser, server, "Bob")]
      await ann.say("hello")
      await bob.hears("Ann", "hello")
    } finally {
      await browser.close()
    }
  })

  timed("in Node", async () => {
    server = await startDev(home, env)
    symlinkSync(MODULES, join(home, "node_modules"))
    const [program] = readmeBlocks("js")
    writeFileSync(join(home, "hello.mjs"), WITH_WEBSOCKET + here(program))
    await prints([process.execPath, "hello.mjs"], /^Ada: hello$/)
  })

  timed("by curl", async () => {
    server = await startDev(home, env)
    const [, publish, read] = readmeBlocks("sh")
    env.TOKEN = await eventually(() => server.told.join("\n").match(/Bearer ([^']+)'/)?.[1], "the token that `dev` prints")
    await prints(["bash", "-c", `${here(publish)}\necho`], /"published":1}$/)
    await prints(["bash", "-c", here(read)], /^\{"topic":"room:lobby","event":"new_msg","payload":\{"name": "curl", "body": "hello"\}/)
  })

  function timed(name, run) {
    test(`${name}, within ${SECONDS_MAX} s`, async context => {
      const began = performance.now()
      await run()
      const seconds = (performance.now() - began) / 1000
      context.diagnostic(`${seconds.toFixed(1)} s`)
      assert.ok(seconds < SECONDS_MAX, `${seconds.toFixed(1)} s`)
    })
  }

  /** With the addresses of the server of this test. */
  function here(code) {
    assert.match(code, /127\.0\.0\.1:400[01]/)
    return code.replaceAll("127.0.0.1:4000", `127.0.0.1:${server.port}`).replaceAll("http://127.0.0.1:4001", server.admin)
  }

  async function prints([program, ...args], wanted) {
    const child = spawn(program, args, {cwd: home, env, stdio: ["ignore", "pipe", "ignore"]})
    running.push(child)
    const seen = []
    const read = async () => {
      for (const lines = linesOf(child.stdout); ;) {
        const {value, done} = await lines.next()
        if (done) assert.fail(`ended after ${JSON.stringify(seen)}`)
        if (wanted.test(value)) return
        seen.push(value)
      }
    }
    await within(read(), `a line like ${wanted}`)
  }
})
