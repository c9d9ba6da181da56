// The demo page of `fanfare dev` in headless Chromium: people chat, one of them loses the network and comes back.
// What the pages look like is in screenshots.test.mjs.

import assert from "node:assert/strict"
import {execFile} from "node:child_process"
import {mkdtempSync, rmSync} from "node:fs"
import {tmpdir} from "node:os"
import {join} from "node:path"
import {after, afterEach, before, beforeEach, describe, test} from "node:test"
import {promisify} from "node:util"
import {chromium} from "playwright-core"
import {ARGS} from "../support/browser.mjs"
import {eventually} from "../support/deadline.mjs"
import {TRANSPORTS, visitLobby} from "../support/lobby.mjs"
import {startDev} from "../support/process.mjs"
import {startProxy} from "../support/proxy.mjs"

describe("lobby", () => {
  let browser, folder, server, people
  before(async () => {
    browser = await chromium.launch({executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGS})
  })
  after(() => browser.close())
  beforeEach(async () => {
    people = []
    folder = mkdtempSync(join(tmpdir(), "fanfare-lobby-"))
    server = await startDev(folder)
  })
  afterEach(async () => {
    for (const {context} of people) await context.close()
    await server.remove()
    rmSync(folder, {recursive: true})
    assert.deepEqual(people.flatMap(({troubles}) => troubles), [])
  })

  for (const transport of Object.keys(TRANSPORTS)) {
    test(`phoenix_4, phoenix_17: two pages chat (${transport})`, async () => {
      const [ann, bob] = [await visit("Ann", {transport}), await visit("Bob", {transport})]
      await ann.sees(["Ann", "Bob"])
      await bob.sees(["Bob", "Ann"])

      await ann.say("Hello from Ann")
      await bob.hears("Ann", "Hello from Ann")
      await ann.hears("Ann", "Hello from Ann")
      await bob.say("<b>Hello</b> & welcome, Ann")
      await ann.hears("Bob", "<b>Hello</b> & welcome, Ann")
      assert.equal(await ann.page.locator("#messages b").count(), 0)
      assert.match(await ann.page.locator(".message time").first().textContent(), /^\d{1,2}:\d{2}/)

      await bob.leave()
      await ann.sees(["Ann"])
    })
  }

  for (const transport of Object.keys(TRANSPORTS)) {
    test(`one page goes offline, comes back, and hears the others again (${transport})`, async () => {
      const proxy = await startProxy(server.port)
      const ann = await visit("Ann", {transport})
      const bob = await visit("Bob", {transport, address: proxy.http})
      await ann.sees(["Ann", "Bob"])

      await bob.context.setOffline(true)
      proxy.cut()
      await bob.isInState("reconnecting")
      assert.match(await bob.page.locator("#state-text").textContent(), /^Reconnecting/)
      // Written while away, the message stays in its field.
      await bob.say("Is anybody there?")
      assert.equal(await bob.page.getByLabel("Message", {exact: true}).inputValue(), "Is anybody there?")
      // Long-polling has no connection whose loss the server could see; it gives a session up after two windows or so.
      if (transport === "websocket") await ann.sees(["Ann"])

      proxy.mend()
      await bob.context.setOffline(false)
      await bob.isInState("open")
      await ann.sees(["Ann", "Bob"])
      await ann.say("Welcome back")
      await bob.hears("Ann", "Welcome back")
      await bob.page.getByLabel("Message", {exact: true}).press("Enter")
      await ann.hears("Bob", "Is anybody there?")

      await proxy.close()
    })
  }

  test("while there is no way through the page says when it tries next, and one can try at once", async () => {
    const proxy = await startProxy(server.port)
    const ann = await visit("Ann", {address: proxy.http})
    proxy.cut()
    // Long enough for the click to come before the attempt.
    await ann.page.getByText(/next try in [45] s/).waitFor()
    proxy.mend()
    await ann.page.getByRole("button", {name: "Try now"}).click()
    await ann.isInState("open")
    await ann.sees(["Ann"])
    await proxy.close()
  })

  test("the transport can be switched, and the connection ended and taken up again", async () => {
    const [ann, bob] = [await visit("Ann"), await visit("Bob")]
    await ann.switchTo("longpoll")
    await ann.sees(["Ann", "Bob"])
    await ann.say("by long-poll")
    await bob.hears("Ann", "by long-poll")
    await bob.say("by WebSocket")
    await ann.hears("Bob", "by WebSocket")
    await ann.switchTo("websocket")
    await ann.say("and back")
    await bob.hears("Ann", "and back")

    await ann.page.getByRole("button", {name: "Disconnect"}).click()
    await ann.isInState("closed")
    await bob.sees(["Bob"])
    await ann.page.getByRole("button", {name: "Connect", exact: true}).click()
    await bob.sees(["Bob", "Ann"])
  })

  test("a changed name is the name that others see", async () => {
    const [ann, bob] = [await visit("Ann"), await visit("Bob")]
    await ann.callMyself("Anna")
    await bob.sees(["Bob", "Anna"])
    await ann.say("It’s me")
    await bob.hears("Anna", "It’s me")
  })

  test("one name twice is one person with two connections", async () => {
    const first = await visit("Ann")
    const second = await visit("Ann")
    await first.sees(["Ann"])
    await first.page.locator("#people").getByText("×2").waitFor()
    await second.leave()
    await first.page.locator("#people").getByText("×2").waitFor({state: "detached"})
  })

  for (const transport of Object.keys(TRANSPORTS)) {
    test(`who was away gets what was said meanwhile, and is told how much it was (${transport})`, async () => {
      const proxy = await startProxy(server.port)
      const ann = await visit("Ann")
      const bob = await visit("Bob", {transport, address: proxy.http})
      await ann.say("before")
      await bob.hears("Ann", "before")

      proxy.cut()
      await bob.isInState("reconnecting")
      for (const body of ["one", "two", "three", "four"]) {
        await ann.say(body)
        await ann.hears("Ann", body)
      }
      proxy.mend()
      await bob.page.getByText("Back again: 4 messages that you missed").waitFor()
      assert.deepEqual(await bob.bodies(), ["before", "one", "two", "three", "four"])
      await proxy.close()
    })
  }

  test("who disconnects, and connects when nothing was said, is told that nothing was missed", async () => {
    const ann = await visit("Ann")
    await ann.leave()
    await ann.page.getByText("Nobody that this page can see.").waitFor()
    await ann.page.getByRole("button", {name: "Connect", exact: true}).click()
    await ann.page.getByText("Back again: you missed nothing").waitFor()
  })

  test("newcomers see what was said last, and when", async () => {
    const ann = await visit("Ann")
    await ann.say("Is anybody there?")
    await ann.hears("Ann", "Is anybody there?")
    const bob = await visit("Bob")
    await bob.hears("Ann", "Is anybody there?")
    assert.match(await bob.page.locator(".message time").first().textContent(), /^\d{1,2}:\d{2}/)
  })

  test("a message sent into a dying connection stays in sight, and can be sent again", async () => {
    const proxy = await startProxy(server.port)
    const ann = await visit("Ann")
    const bob = await visit("Bob", {address: proxy.http})
    await ann.sees(["Ann", "Bob"])

    proxy.silence()
    await bob.say("Did this arrive?")
    await bob.page.locator(".message.pending").getByText("Did this arrive?").waitFor()
    proxy.cut()
    await bob.page.locator(".message.unsent").getByText("Perhaps not sent").waitFor()
    proxy.mend()
    await bob.isInState("open")
    await bob.page.getByRole("button", {name: "Send again"}).click()
    await ann.hears("Bob", "Did this arrive?")
    await bob.page.locator(".message.unsent").waitFor({state: "detached"})
    assert.deepEqual([await ann.bodies(), await bob.bodies()], [["Did this arrive?"], ["Did this arrive?"]])
    await proxy.close()
  })

  test("a name that nobody could see is refused", async () => {
    const [ann, bob] = [await visit("Ann"), await visit("Bob")]
    for (const blank of ["   ", "\u3164", "\u200b\u202e", "\u2800 \u2800"]) {
      const field = bob.page.getByLabel("Name", {exact: true})
      await field.fill(blank)
      await bob.say("Who am I?")
      await bob.page.getByRole("alert").getByText("at least one letter").waitFor()
      assert.equal(await field.getAttribute("aria-invalid"), "true")
    }
    await ann.sees(["Ann", "Bob"])
    await bob.callMyself("Bob")
    await bob.page.getByLabel("Message", {exact: true}).press("Enter")
    await ann.hears("Bob", "Who am I?")
    assert.deepEqual(await ann.bodies(), ["Who am I?"])
  })

  test("names from right to left turn nothing around them", async () => {
    const ann = await visit("Ann")
    const bob = await visit("Fatima \u202edna\u2066")
    await bob.say("\u202ehello")
    await ann.page.getByText("hello").waitFor()
    for (const [name, behind] of [[".remark bdi", ".remark time"], [".message .head bdi", ".message time"]]) {
      const [left, right] = await Promise.all([name, behind].map(at => ann.page.locator(at).first().boundingBox()))
      assert.ok(left.x + left.width <= right.x, `${name} ends at ${left.x + left.width}, ${behind} begins at ${right.x}`)
    }
    const isolated = await ann.page.locator("bdi").evaluateAll(all => all.every(node => getComputedStyle(node).unicodeBidi === "isolate"))
    assert.ok(isolated)
  })

  test("the same topic can be read as a stream, in the page and in a shell", async () => {
    const ann = await visit("Ann")
    await ann.page.getByRole("button", {name: "Read it here"}).click()
    await ann.page.locator("#stream-state[data-state=open]").waitFor()
    await ann.page.locator("#people").getByText("×2").waitFor()
    await ann.say("for the stream")
    await ann.page.locator("#stream-events").getByText("for the stream").waitFor()
    await ann.page.getByRole("button", {name: "Stop reading"}).click()
    await ann.page.locator("#people").getByText("×2").waitFor({state: "detached"})

    const command = await ann.page.locator("#curl").textContent()
    const reading = promisify(execFile)("sh", ["-c", `exec ${command} --max-time 20`]).catch(({stdout}) => ({stdout}))
    await ann.sees(["Ann", "curl"])
    await ann.say("for the shell")
    await ann.hears("Ann", "for the shell")
    assert.match((await reading).stdout, /"event":"new_msg","payload":\{"id":"[0-9a-f]+","body":"for the shell"/)
  })

  test("those who come and go are mentioned", async () => {
    const ann = await visit("Ann")
    const cleo = await visit("Cleo Mendes")
    await cleo.leave()
    await ann.sees(["Ann"])
    await ann.page.getByText("Cleo Mendes came in").waitFor()
    await ann.page.getByText("Cleo Mendes left").waitFor()
  })

  async function visit(name, options) {
    const person = await visitLobby(browser, server, name, options)
    people.push(person)
    return person
  }
})
