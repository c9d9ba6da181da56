// The demo page of `fanfare dev` in headless Chromium: people chat, one of them loses the network and comes back.

import assert from "node:assert/strict"
import {mkdirSync, mkdtempSync, rmSync} from "node:fs"
import {tmpdir} from "node:os"
import {join} from "node:path"
import {after, afterEach, before, beforeEach, describe, test} from "node:test"
import {chromium} from "playwright-core"
import {ARGS} from "../support/browser.mjs"
import {DEADLINE_MS, eventually} from "../support/deadline.mjs"
import {startDev} from "../support/process.mjs"
import {startProxy} from "../support/proxy.mjs"

const DESKTOP = {width: 1280, height: 800}
const PHONE = {width: 360, height: 740}
const TRANSPORTS = {websocket: "WebSocket", longpoll: "Long-poll"}

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
    await server.stop("SIGKILL")
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
      assert.equal(await ann.page.locator("#log b").count(), 0)
      assert.match(await ann.page.locator(".message time").first().textContent(), /^\d{1,2}:\d{2}/)
      await ann.screenshot(`chat-${transport}`)

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
      await bob.screenshot(`offline-${transport}`)
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
    await ann.screenshot("reconnecting")
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

  for (const colorScheme of ["light", "dark"]) {
    test(`on a phone nothing scrolls sideways (${colorScheme})`, async () => {
      const names = ["Ann", "Bartholomew Featherstonehaugh-Marchbanks", "Bob"]
      for (const name of names) await visit(name, {viewport: PHONE, colorScheme})
      const [ann, long, bob] = people
      await ann.sees(names)
      await long.say(`a long word: ${"x".repeat(300)}`)
      await bob.say("Shall we meet at the usual place tomorrow, or is the weather too bad for that?")
      await ann.say("Let’s!")
      await ann.hears("Ann", "Let’s!")
      const widths = await ann.page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth])
      assert.ok(widths[0] <= widths[1], `${widths[0]} px of content in ${widths[1]} px`)
      await ann.screenshot(`phone-${colorScheme}`)
    })
  }

  for (const colorScheme of ["light", "dark"]) {
    test(`those who come and go are mentioned (${colorScheme})`, async () => {
      const ann = await visit("Ann", {colorScheme})
      await ann.screenshot(`empty-${colorScheme}`)
      const [bob, cleo] = [await visit("Bob"), await visit("Cleo Mendes")]
      await bob.say("Good morning! Is the stage ready?")
      await cleo.say("Nearly. The trumpets are still being tuned.")
      await ann.say("I’ll bring the sheet music in ten minutes.")
      await bob.hears("Ann", "I’ll bring the sheet music in ten minutes.")
      await cleo.leave()
      await ann.sees(["Ann", "Bob"])
      await ann.page.getByText("Cleo Mendes came in").waitFor()
      await ann.page.getByText("Cleo Mendes left").waitFor()
      await ann.screenshot(`desktop-${colorScheme}`)
    })
  }

  /** A person at the page, in a browser profile of their own. */
  async function visit(name, {transport = "websocket", address = server.http, viewport = DESKTOP, colorScheme = "light"} = {}) {
    const context = await browser.newContext({viewport, colorScheme, locale: "en-GB"})
    const page = await context.newPage()
    page.setDefaultTimeout(DEADLINE_MS)
    const troubles = []
    page.on("pageerror", error => troubles.push(String(error)))
    page.on("request", request => {
      const url = request.url()
      if (!url.startsWith(address) && !url.startsWith("data:")) troubles.push(`a request to ${url}`)
    })
    await page.goto(address)
    const person = new Person(name, context, page, troubles)
    people.push(person)
    if (transport !== "websocket") await person.switchTo(transport)
    await person.isInState("open")
    await person.callMyself(name)
    return person
  }
})

class Person {
  constructor(name, context, page, troubles) {
    this.name = name
    this.context = context
    this.page = page
    this.troubles = troubles
  }

  async callMyself(name) {
    this.name = name
    const field = this.page.getByLabel("Name", {exact: true})
    await field.fill(name)
    await field.press("Enter")
    await this.page.locator("#people li", {hasText: "you"}).getByText(name, {exact: true}).waitFor()
  }

  async say(body) {
    const field = this.page.getByLabel("Message", {exact: true})
    await field.fill(body)
    await field.press("Enter")
  }

  hears(name, body) {
    const message = this.page.locator(".message", {has: this.page.locator("strong").getByText(name, {exact: true})})
    return message.getByText(body, {exact: true}).first().waitFor()
  }

  /** The people who are there, the person itself first. */
  sees(names) {
    const now = () => this.page.locator("#people .who").allTextContents()
    return eventually(async () => String(await now()) === String(names), `${this.name} to see ${names}`)
      .catch(async error => assert.deepEqual(await now(), names, error.message))
  }

  async isInState(state) {
    await this.page.locator(`#state[data-state=${state}]`).waitFor()
  }

  async switchTo(transport) {
    await this.page.getByRole("radio", {name: TRANSPORTS[transport]}).check()
    await this.page.getByText(`Connected · ${TRANSPORTS[transport]}`).waitFor()
  }

  async screenshot(name) {
    const folder = process.env.SCREENSHOTS
    if (!folder) return
    mkdirSync(folder, {recursive: true})
    await this.page.screenshot({path: join(folder, `${name}.png`), animations: "disabled"})
  }

  /** Disconnects, so that the others need not wait for the server to notice. */
  async leave() {
    await this.page.getByRole("button", {name: "Disconnect"}).click()
    await this.isInState("closed")
  }
}
