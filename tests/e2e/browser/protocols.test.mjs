// The demo pages of hub, bridge and rooms in headless Chromium; the bridge's on each of its three transports.

import assert from "node:assert/strict"
import {mkdtempSync, rmSync} from "node:fs"
import {tmpdir} from "node:os"
import {join} from "node:path"
import {after, afterEach, before, beforeEach, describe, test} from "node:test"
import {chromium} from "playwright-core"
import {ARGS} from "../support/browser.mjs"
import {eventually} from "../support/deadline.mjs"
import {startDev} from "../support/process.mjs"

const TOKEN = "a-token-for-the-pages-tests"

describe("pages of the other protocols", () => {
  let browser, folder, server, page, troubles
  before(async () => {
    process.env.FANFARE_ADMIN_TOKEN = TOKEN
    browser = await chromium.launch({executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGS})
  })
  after(() => browser.close())
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "fanfare-protocols-"))
    server = await startDev(folder)
    page = await browser.newPage()
    troubles = []
    page.on("pageerror", error => troubles.push(String(error)))
  })
  afterEach(async () => {
    await page.close()
    await server.stop("SIGKILL")
    rmSync(folder, {recursive: true})
    assert.deepEqual(troubles, [])
  })

  const text = id => page.locator(`#${id}`).textContent()
  const value = id => page.locator(`#${id}`).evaluate(output => output.value)
  const is = (id, expected) => eventually(async () => expected.test(await value(id)), `#${id}`)

  for (const transport of ["websocket", "eventsource", "xhrPolling"]) {
    test(`bridge_9, bridge_12: the bridge by ${transport}`, async () => {
      await page.goto(`${server.http}/bullet.html`)
      await page.selectOption("select[name=transport]", transport)
      await page.fill("input[name=key]", "a key&more")
      await page.click("#toggle")
      await is("state", /^open/)
      await is("heartbeat", /:/)
      await page.click("#send button")
      await is("last", /^status checked$/)
      // The first poll may still be on its way.
      await eventually(async () => (await members(server, "bridge:a%20key%26more")) === 1, "its topic")
      for (let n = 0; n < 20; n++) {
        await publish(server, n % 2 ? "bridge" : "bridge:a%20key%26more", {n})
      }
      await eventually(async () => /"n":19}$/.test(await text("messages")), "all messages")
      const numbers = [...(await text("messages")).matchAll(/"n":(\d+)/g)].map(found => Number(found[1]))
      assert.deepEqual(numbers.filter(n => n % 2), [1, 3, 5, 7, 9, 11, 13, 15, 17, 19], "none lost, none twice")
      assert.deepEqual(numbers.filter(n => n % 2 === 0), [0, 2, 4, 6, 8, 10, 12, 14, 16, 18])
      await page.click("#toggle")
      await is("state", /^closed/)
    })
  }

  test("hub_7, hub_8: the hub's publisher and subscriber", async () => {
    await page.goto(`${server.http}/hub.html`)
    await page.click("#subscribe-toggle")
    await is("subscriber-state", /nobody has started/)
    await page.click("#publish-toggle")
    await is("publisher-state", /^open/)
    await page.click("#subscribe-toggle")
    await is("subscriber-state", /^open/)
    await eventually(async () => (await members(server, "hub:example.com/news")) === 1, "the subscriber")
    await page.fill("#say input", "hello <b>all</b>")
    await page.press("#say input", "Enter")
    await eventually(async () => /hello <b>all<\/b>/.test(await text("messages")), "the message")
    await page.click("#publish-toggle")
    await is("publisher-state", /^closed/)
  })

  test("rooms_1: the rooms' page and the lobby hear each other", async () => {
    await page.goto(`${server.http}/rooms.html`)
    await is("state", /^open/)
    await page.click("button[value=join]")
    await is("joined", /^room:lobby$/)
    await page.fill("#say input", "from rooms")
    await page.press("#say input", "Enter")
    await eventually(async () => /"body":"from rooms"/.test(await text("messages")), "its own message")
    await publish(server, "room:lobby", {name: "http", body: "from outside"})
    await eventually(async () => /from outside/.test(await text("messages")), "a message by HTTP")
    await page.click("button[value=leave]")
    await is("joined", /^nothing$/)
  })
})

async function publish(server, topic, payload) {
  const answer = await api(server, "POST", "/api/publish", {topic, event: "new_msg", payload})
  assert.deepEqual(answer, {published: 1})
}

async function members(server, topic) {
  const {topics} = await api(server, "GET", "/api/topics?limit=1000")
  return topics.find(entry => entry.topic === topic)?.members ?? 0
}

async function api(server, method, path, body) {
  const headers = {authorization: `Bearer ${TOKEN}`}
  const answer = await fetch(`${server.admin}${path}`, {method, headers, body: body && JSON.stringify(body)})
  return answer.json()
}
