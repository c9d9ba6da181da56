// The console in a browser, against a server: what its pages show, that they can be used without a mouse, that axe finds nothing, and
// that what clients have called their topics stays text. Screenshots go to $SCREENSHOTS when that names a folder.

import assert from "node:assert/strict"
import {readFileSync, statSync} from "node:fs"
import {createRequire} from "node:module"
import {dirname, join} from "node:path"
import {after, before, describe, test} from "node:test"
import {fileURLToPath} from "node:url"
import {gzipSync} from "node:zlib"
import {chromium} from "playwright-core"
import WebSocket from "ws"
import {ARGS} from "../support/browser.mjs"
import {DEADLINE_MS, within} from "../support/deadline.mjs"
import {startServe} from "../support/process.mjs"

const DIST = join(dirname(fileURLToPath(import.meta.url)), "../../../console/dist/console")
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8")
const SIZES = {desktop: {width: 1280, height: 800}, tablet: {width: 768, height: 1024}, phone: {width: 390, height: 844}, small: {width: 360, height: 740}}
const MARKUP = "room:<img src=x onerror=\"document.title='taken'\">"
const TOKEN = "a-token-for-the-end-to-end-tests"
const BOARD = "a-token-of-the-board"
const CONFIG = `
[[endpoint]]
[[channel]]
topic = "*"
join = "open"
publish = "open"
history = { messages = 20 }
[admin]
token_env = "FANFARE_ADMIN_TOKEN"
[[admin.token]]
name = "board"
token_env = "BOARD_TOKEN"
may = ["read"]
`

describe("the console", () => {
  let browser, server, clients
  before(async () => {
    server = await startServe(CONFIG, {BOARD_TOKEN: BOARD})
    clients = await Promise.all([["room:lobby", MARKUP], ["room:lobby"]].map(topics => joined(server, topics)))
    browser = await chromium.launch({executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGS})
    await publish({topic: "room:lobby", event: "new_msg", payload: {body: "<b>hello</b>", token: "of somebody"}})
    await fetch(`${server.http}/nowhere/websocket?vsn=2.0.0`)
  })
  after(async () => {
    await browser?.close()
    clients?.forEach(client => client.terminate())
    await server?.stop("SIGKILL")
  })

  const publish = body => fetch(`${server.admin}/api/publish`, {method: "POST", headers: {authorization: `Bearer ${TOKEN}`}, body: JSON.stringify(body)})

  async function open({hash = "", size = "desktop", scheme = "light", token = TOKEN} = {}) {
    const context = await browser.newContext({viewport: SIZES[size], colorScheme: scheme, bypassCSP: false})
    context.setDefaultTimeout(DEADLINE_MS)
    const page = await context.newPage()
    page.on("pageerror", error => assert.fail(String(error)))
    await page.goto(`${server.admin}/#token=${token}`)
    await page.getByRole("heading", {name: "Overview"}).waitFor()
    if (hash) await page.evaluate(hash => { location.hash = hash }, hash)
    return {page, context}
  }

  const heading = (page, name) => page.getByRole("heading", {level: 1, name, exact: true}).waitFor()
  const shows = (page, text) => page.getByText(text).first().waitFor()

  const PAGES = {
    overview: {hash: "#/", ready: async page => { await heading(page, "Overview"); await page.getByRole("link", {name: "room:lobby"}).waitFor() }},
    topics: {hash: "#/topics", ready: async page => { await heading(page, "Topics"); await shows(page, MARKUP) }},
    topic: {hash: "#/topic/room%3Alobby", ready: async page => { await heading(page, "room:lobby"); await page.getByRole("rowheader").first().waitFor() }},
    sockets: {hash: "#/sockets", ready: async page => { await heading(page, "Sockets"); await page.getByRole("rowheader").first().waitFor() }},
    why: {hash: "#/why", ready: async page => { await heading(page, "Why"); await shows(page, "refused") }},
    history: {hash: "#/history/room%3Alobby", ready: async page => { await heading(page, "History of room:lobby"); await shows(page, "<b>hello</b>") }},
    publish: {hash: "#/publish", ready: page => heading(page, "Publish")},
    tap: {hash: "#/tap?topic=room:*", ready: async page => {
      await heading(page, "Tap")
      await page.getByText("live", {exact: true}).waitFor()
      await publish({topic: "room:lobby", event: "new_msg", payload: {body: "seen", token: "of somebody"}})
      await shows(page, "\"body\":\"seen\"")
    }},
  }

  test("nothing that axe knows is wrong, and nothing scrolls sideways, on any page, size and in both schemes", async () => {
    const {page, context} = await open()
    const folder = process.env.SCREENSHOTS
    for (const [name, {hash, ready}] of Object.entries(PAGES)) {
      await page.setViewportSize(SIZES.desktop)
      await page.evaluate(hash => { location.hash = hash }, hash)
      await ready(page)
      for (const [size, viewport] of Object.entries(SIZES)) {
        await page.setViewportSize(viewport)
        const width = await page.evaluate(() => document.documentElement.scrollWidth)
        assert.ok(width <= viewport.width, `${name} at ${size} is ${width} wide`)
        for (const scheme of ["light", "dark"]) {
          // Each scheme once, one of them as small as a phone: the bar of pages and the cards are others there.
          const isTried = scheme === (size === "desktop" ? "light" : size === "phone" ? "dark" : "")
          if (!isTried && !folder) continue
          await page.emulateMedia({colorScheme: scheme})
          if (folder) await page.screenshot({path: join(folder, `console-${name}-${size}-${scheme}.png`)})
          if (isTried) await clean(page, `${name} ${size} ${scheme}`)
        }
      }
    }
    await context.close()
  })

  test("the page to log in", async () => {
    const context = await browser.newContext({viewport: SIZES.small})
    const page = await context.newPage()
    await page.goto(server.admin)
    await page.getByLabel("API token").fill("a-wrong-token")
    await page.keyboard.press("Enter")
    await page.getByRole("alert").waitFor()
    await clean(page, "login")
    await page.getByLabel("API token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await heading(page, "Overview")
    const [cookie] = await context.cookies()
    assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, "Strict"])
    await page.getByRole("button", {name: "Log out"}).click()
    await page.getByLabel("API token").waitFor()
    assert.deepEqual(await context.cookies(), [])
    await context.close()
  })

  test("the link with a token leaves the address bar", async () => {
    const {page, context} = await open()
    assert.ok(!page.url().includes(TOKEN), page.url())
    await context.close()
  })

  test("markup stays text", async () => {
    const {page, context} = await open({hash: "#/topics"})
    await page.getByRole("link", {name: MARKUP}).click()
    await heading(page, MARKUP)
    assert.ok(!(await page.title()).startsWith("taken"))
    assert.equal(await page.locator("main img").count(), 0)
    await context.close()
  })

  test("the tap hides secrets, pauses, and goes on", async () => {
    const {page, context} = await open({hash: "#/tap?topic=room:*"})
    await PAGES.tap.ready(page)
    assert.ok(!(await page.locator("main").innerText()).includes("of somebody"))
    await page.getByRole("button", {name: "Pause"}).click()
    await publish({topic: "room:lobby", event: "unseen", payload: {}})
    await page.getByRole("button", {name: "Pause"}).click()
    await publish({topic: "room:lobby", event: "seen_again", payload: {}})
    await shows(page, "seen_again")
    assert.equal(await page.getByText("unseen").count(), 0)
    await context.close()
  })

  test("a message is published by keyboard alone, and a socket is closed after a question", async () => {
    const own = await joined(server, ["room:own"])
    const {page, context} = await open({hash: "#/publish"})
    await heading(page, "Publish")
    await tabTo(page, "topic")
    await page.keyboard.type("room:own")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Control+a")
    await page.keyboard.type("[1]")
    await shows(page, "A payload is an object")
    await page.keyboard.press("Control+a")
    await page.keyboard.type("{\"body\": \"by hand\"}")
    await page.keyboard.press("Tab")
    const received = own.next("new_msg")
    await page.keyboard.press("Enter")
    await shows(page, "Published")
    assert.equal((await within(received, "the message")).body, "by hand")
    await page.evaluate(() => { location.hash = "#/sockets?topic=room:own" })
    await page.getByText("1 sockets").or(page.getByText("1 socket")).first().waitFor()
    await page.getByRole("rowheader").getByRole("link").click()
    await page.getByRole("button", {name: "Close this socket…"}).click()
    await page.getByRole("button", {name: "Close them"}).click()
    await shows(page, "The socket is closed.")
    assert.equal(await within(own.closed, "the end of the socket"), 1001)
    await context.close()
  })

  test("who may only read is offered nothing else", async () => {
    const {page, context} = await open({token: BOARD, hash: "#/topic/room%3Alobby"})
    await heading(page, "room:lobby")
    assert.deepEqual(await page.locator(".actions a").allInnerTexts(), ["Why"])
    await page.evaluate(() => { location.hash = "#/tap" })
    await shows(page, "lacks the right tap")
    await context.close()
  })

  test("a session that has ended leads back to the login", async () => {
    const {page, context} = await open({hash: "#/topics"})
    await heading(page, "Topics")
    await context.clearCookies()
    await page.getByLabel("begins with").fill("room")
    await shows(page, "Your session has ended")
    await context.close()
  })

  test("all of it is small", () => {
    const size = ["index.html", "console.js", "console.css"].reduce((sum, file) => sum + gzipSync(readFileSync(join(DIST, file))).length, 0)
    assert.ok(statSync(join(DIST, "console.js")).size > 0 && size < 60_000, `${size} bytes`)
  })
})

async function clean(page, what) {
  // Evaluated by the debugger: the page's own policy forbids scripts of others.
  if (!await page.evaluate(() => "axe" in window)) await page.evaluate(AXE)
  const {violations} = await page.evaluate(() => window.axe.run(document, {resultTypes: ["violations"]}))
  assert.deepEqual(violations.map(({id, nodes}) => [id, nodes.map(node => node.html)]), [], what)
}

async function tabTo(page, label) {
  for (let n = 0; n < 40; n++) {
    await page.keyboard.press("Tab")
    const name = await page.evaluate(() => document.activeElement?.closest("label")?.querySelector("span")?.textContent)
    if (name === label) return
  }
  assert.fail(`${label} cannot be reached by the keyboard`)
}

async function joined(server, topics) {
  const socket = new WebSocket(`${server.ws}/socket/websocket?vsn=2.0.0`)
  const waiting = []
  socket.closed = new Promise(resolve => socket.on("close", resolve))
  socket.on("message", text => {
    const [, , , event, payload] = JSON.parse(text)
    waiting.filter(({wanted}) => wanted === event).forEach(({resolve}) => resolve(payload))
  })
  socket.next = wanted => new Promise(resolve => waiting.push({wanted, resolve}))
  await new Promise((resolve, reject) => socket.on("open", resolve).on("error", reject))
  for (const [n, topic] of topics.entries()) {
    const reply = socket.next("phx_reply")
    socket.send(JSON.stringify([String(n), String(n), topic, "phx_join", {}]))
    await reply
  }
  return socket
}
