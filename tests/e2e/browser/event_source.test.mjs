// The browser's own EventSource, by the lines in the README of the npm package: cut, it goes on by Last-Event-ID.

import assert from "node:assert/strict"
import {after, afterEach, before, beforeEach, describe, test} from "node:test"
import {chromium} from "playwright-core"
import {ARGS} from "../support/browser.mjs"
import {eventually} from "../support/deadline.mjs"
import {startProxy} from "../support/proxy.mjs"
import {block} from "../support/readme.mjs"
import {startServe} from "../support/process.mjs"
import {CONFIG, publish, startWithHistory} from "../support/resume.mjs"

describe("EventSource", () => {
  let browser, server, proxy, page
  before(async () => {
    browser = await chromium.launch({executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGS})
  })
  after(() => browser.close())
  beforeEach(async () => {
    server = await startWithHistory()
    proxy = await startProxy(server.port)
    page = await browser.newPage()
  })
  afterEach(async () => {
    await page.close()
    await proxy.close()
    await server.remove()
  })

  /** Opens the stream of a topic in the page, which collects what is shown and counts how often it loads everything. */
  async function open(topic) {
    const code = block("event-source").replace("https://your.host/events/room:lobby", `${proxy.http}/events/${topic}`)
    await page.evaluate(`
      var shown = [], loads = 0, joins = 0
      const show = ({n}) => shown.push(n)
      const loadEverything = () => loads++
      ${code}
      var source = events
      events.addEventListener("joined", () => joins++)
    `)
    await eventually(() => page.evaluate("joins === 1"), "the join")
  }

  const shown = () => page.evaluate("shown")

  async function shows(count) {
    await eventually(async () => (await shown()).length >= count, `${count} numbers`)
    assert.deepEqual(await shown(), Array.from({length: count}, (_, index) => index + 1))
  }

  test("what is missed comes on return, in order and once", async () => {
    await open("room:events")
    for (const [cuts, from] of [1, 101, 201].entries()) {
      const published = publish(server, "room:events", from, from + 99)
      await eventually(async () => (await shown()).length >= from + 20, "the first numbers")
      proxy.cut()
      await eventually(() => page.evaluate("source.readyState === EventSource.CONNECTING"), "the stream to be cut")
      proxy.mend()
      await published
      await shows(from + 99)
      await eventually(() => page.evaluate(`joins === ${cuts + 2}`), "the stream to be open again")
    }
    assert.equal(await page.evaluate("loads"), 0)
  })

  test("what is not kept any more is told", async () => {
    await open("short:events")
    await publish(server, "short:events", 1, 2)
    await shows(2)
    proxy.cut()
    await publish(server, "short:events", 3, 7)
    proxy.mend()
    await eventually(() => page.evaluate("loads === 1"), "everything to be loaded")
    await publish(server, "short:events", 8)
    await eventually(async () => (await shown()).length >= 3, "the next number")
    assert.deepEqual(await shown(), [1, 2, 8])
  })

  // A browser would give up after any status but 200.
  test("who is refused for a while comes again", async () => {
    const strict = await startServe(`${CONFIG}\n[limits]\naccept_rate = 1\naccept_burst = 1\n`)
    try {
      await page.evaluate(`
        var joins = 0
        for (let n = 0; n < 3; n++) {
          new EventSource("${strict.http}/events/room:" + n).addEventListener("joined", () => joins++)
        }
      `)
      await eventually(() => page.evaluate("joins === 3"), "all to be let in")
    } finally {
      await strict.remove()
    }
  })
})
