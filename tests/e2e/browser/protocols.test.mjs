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
import {startProxy} from "../support/proxy.mjs"

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
    await server.remove()
    rmSync(folder, {recursive: true})
    assert.deepEqual(troubles, [])
  })

  const bodies = () => page.locator(".message .text").allTextContents()
  const value = id => page.locator(`#${id}`).evaluate(output => output.value)
  const is = (id, expected) => eventually(async () => expected.test(await value(id)), `#${id}`)

  for (const transport of ["websocket", "eventsource", "xhrPolling"]) {
    test(`bridge_9, bridge_12: the bridge by ${transport}`, async () => {
      await page.goto(`${server.http}/bullet.html`)
      await page.selectOption("select[name=transport]", transport)
      await page.fill("input[name=key]", "a key&more")
      await page.click("#toggle")
      await is("state", /^Open/)
      await is("heartbeat", /:/)
      assert.equal(await page.inputValue("#say input"), "status")
      await page.click("#say button")
      await is("last", /^status checked$/)
      // The first poll may still be on its way.
      await eventually(async () => (await members(server, "bridge:a%20key%26more")) === 1, "its topic")
      for (let n = 0; n < 20; n++) {
        await publish(server, n % 2 ? "bridge" : "bridge:a%20key%26more", {n})
      }
      await eventually(async () => (await bodies()).at(-1) === '{"n":19}', "all messages")
      const numbers = (await bodies()).filter(body => body.startsWith("{")).map(body => JSON.parse(body).n)
      assert.deepEqual(numbers.filter(n => n % 2), [1, 3, 5, 7, 9, 11, 13, 15, 17, 19], "none lost, none twice")
      assert.deepEqual(numbers.filter(n => n % 2 === 0), [0, 2, 4, 6, 8, 10, 12, 14, 16, 18])
      await page.click("#toggle")
      await is("state", /^Closed/)
    })
  }

  test("cursors: two windows show each other's pointers and names, by Supabase's client", async () => {
    const other = await browser.newPage()
    other.on("pageerror", error => troubles.push(String(error)))
    for (const [window, name] of [[page, "Ada"], [other, "Bob"]]) {
      await window.goto(`${server.http}/supabase.html`)
      await window.locator('#state[data-state="open"]').waitFor()
      await window.fill("#name", name)
      await window.press("#name", "Enter")
    }
    const people = window => window.locator("#people bdi").allTextContents()
    await eventually(async () => (await people(page)).join() === "Ada,Bob", "who is here, oneself first")
    await eventually(async () => (await people(other)).join() === "Bob,Ada", "who is here, oneself first")
    const {x, y, width, height} = await page.locator("#stage").boundingBox()
    await page.mouse.move(x + width / 4, y + height / 2)
    const cursor = other.locator(".cursor")
    await cursor.waitFor()
    assert.equal(await cursor.locator("bdi").textContent(), "Ada")
    const at = await cursor.evaluate(cursor => [cursor.style.getPropertyValue("--x"), cursor.style.getPropertyValue("--y")])
    assert.ok(Math.abs(at[0] - 0.25) < 0.02 && Math.abs(at[1] - 0.5) < 0.02, at.join())
    await page.goto("about:blank")
    await eventually(async () => (await cursor.count()) === 0, "a pointer goes with its window")
    await eventually(async () => (await people(other)).join() === "Bob", "and so does its name")
    await other.close()
  })

  test("hub_7, hub_8: the hub's publisher and subscriber", async () => {
    await page.goto(`${server.http}/hub.html`)
    assert.ok(await page.isDisabled("#say button"))
    await page.click("#subscribe-toggle")
    await is("subscriber-state", /nobody has started/)
    await page.click("#publish-toggle")
    await is("publisher-state", /^Open/)
    await page.click("#subscribe-toggle")
    await is("subscriber-state", /^Open/)
    await eventually(async () => (await members(server, "hub:example.com/news")) === 1, "the subscriber")
    await say("hello <b>all</b>")
    await page.locator(".message:not(.own)").getByText("hello <b>all</b>").waitFor()
    await page.click("#publish-toggle")
    await is("publisher-state", /^Closed/)
    assert.ok(await page.isDisabled("#say button"))
    // A second publisher has to stay away.
    await page.click("#publish-toggle")
    await is("publisher-state", /^Open/)
    const second = await browser.newPage()
    await second.goto(`${server.http}/hub.html`)
    await second.click("#publish-toggle")
    await second.getByText("Refused: the topic has a publisher").waitFor()
    await second.close()
  })

  test("what was published into a dying connection is marked", async () => {
    const proxy = await startProxy(server.port)
    await page.goto(`${proxy.http}/hub.html`)
    await page.click("#publish-toggle")
    await is("publisher-state", /^Open/)
    proxy.silence()
    await say("lost?")
    proxy.cut()
    await is("publisher-state", /connection was lost/)
    await page.locator(".message.unsent").getByText("Perhaps not sent").waitFor()
    await proxy.close()
  })

  test("so is what was sent over the bridge, and it is in the field again", async () => {
    const proxy = await startProxy(server.port)
    await page.goto(`${proxy.http}/bullet.html`)
    await page.click("#toggle")
    await is("heartbeat", /:/)
    proxy.silence()
    await say("lost?")
    proxy.cut()
    await is("state", /^Reconnecting/)
    await page.locator(".message.unsent").getByText("Perhaps not sent").waitFor()
    assert.equal(await page.inputValue("#say input"), "lost?")
    await proxy.close()
  })

  test("rooms_1: the rooms' page and the lobby hear each other", async () => {
    await page.goto(`${server.http}/rooms.html`)
    await is("state", /^Open/)
    assert.ok(await page.isDisabled("#say button"))
    await page.click("button[value=join]")
    await is("joined", /^room:lobby$/)
    await say("from rooms")
    await page.locator(".message.own:not(.pending)").getByText('"body":"from rooms"').waitFor()
    await publish(server, "room:lobby", {name: "http", body: "from outside"})
    await page.locator(".message").getByText("from outside").waitFor()
    await page.fill("input[name=room]", "room:secret")
    await page.click("button[value=join]")
    await page.getByRole("alert").getByText("Not joined: room:secret (unmatched topic)").waitFor()
    await page.fill("input[name=room]", "room:lobby")
    await page.click("button[value=leave]")
    await is("joined", /^nothing$/)
    assert.ok(await page.isDisabled("#say button"))
  })

  test("the rooms' page comes back by itself, and what may be lost is in the field again", async () => {
    const proxy = await startProxy(server.port)
    await page.goto(`${proxy.http}/rooms.html`)
    await is("state", /^Open/)
    await page.click("button[value=join]")
    await is("joined", /^room:lobby$/)
    proxy.silence()
    await say("lost?")
    proxy.cut()
    await is("state", /^Reconnecting/)
    await page.locator(".message.unsent").getByText("Perhaps not sent").waitFor()
    assert.equal(await page.inputValue("#say input"), "lost?")
    proxy.mend()
    await is("state", /^Open/)
    await is("joined", /^room:lobby$/)
    await page.press("#say input", "Enter")
    await page.locator(".message.own:not(.pending, .unsent)").getByText("lost?").waitFor()
    await proxy.close()
  })

  test("all of it can be done with the keyboard", async () => {
    await page.goto(`${server.http}/hub.html`)
    const tabTo = async id => {
      for (let n = 0; n < 30; n++) {
        if (await page.evaluate(id => document.activeElement.id === id || document.activeElement.form?.id === id, id)) return
        await page.keyboard.press("Tab")
      }
      assert.fail(`no key leads to ${id}`)
    }
    await tabTo("publish-toggle")
    await page.keyboard.press("Enter")
    await is("publisher-state", /^Open/)
    await tabTo("subscribe-toggle")
    await page.keyboard.press("Space")
    await is("subscriber-state", /^Open/)
    await tabTo("say")
    await page.keyboard.type("by keyboard")
    await page.keyboard.press("Enter")
    await page.locator(".message:not(.own)").getByText("by keyboard").waitFor()
  })

  async function say(text) {
    await page.fill("#say input", text)
    await page.press("#say input", "Enter")
  }
})

async function publish(server, topic, payload) {
  const answer = await api(server, "POST", "/api/publish", {topic, event: "new_msg", payload})
  assert.equal(answer.published, 1)
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
