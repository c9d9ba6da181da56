// The console in a browser, against a server: what its pages show, that they can be used without a mouse, that axe finds nothing, and
// that what clients have called their topics stays text. Screenshots go to $SCREENSHOTS when that names a folder.

import assert from "node:assert/strict"
import {readFileSync, statSync} from "node:fs"
import {createRequire} from "node:module"
import {dirname, join} from "node:path"
import {after, before, describe, test} from "node:test"
import {fileURLToPath} from "node:url"
import {createServer} from "node:http"
import {gzipSync} from "node:zlib"
import {chromium} from "playwright-core"
import WebSocket from "ws"
import {ARGS} from "../support/browser.mjs"
import {DEADLINE_MS, within} from "../support/deadline.mjs"
import {startServe} from "../support/process.mjs"

const DIST = join(dirname(fileURLToPath(import.meta.url)), "../../../console/dist/console")
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8")
const SIZES = {desktop: {width: 1280, height: 800}, tablet: {width: 768, height: 1024}, phone: {width: 390, height: 844}, small: {width: 360, height: 740},
  zoomed: {width: 640, height: 400}}
const MARKUP = "room:<img src=x onerror=\"document.title='taken'\">"
const TOKEN = "a-token-for-the-end-to-end-tests"
const BOARD = "a-token-of-the-board"
const CONFIG = `
[limits]
joins_max = 20000
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
    assert.ok(!page.url().includes(token), `the token has left the address bar, ${page.url()}`)
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
    config: {hash: "#/config", ready: async page => { await heading(page, "Config"); await shows(page, "limits.joins_max") }},
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

  test("markup stays text", async () => {
    const {page, context} = await open({hash: "#/topics"})
    await page.getByRole("link", {name: MARKUP}).click()
    await heading(page, MARKUP)
    const isText = async () => {
      assert.ok(!(await page.title()).startsWith("taken"))
      assert.equal(await page.locator("main img, main b").count(), 0)
    }
    await isText()
    for (const hash of [`#/tap?topic=${encodeURIComponent(MARKUP)}`, `#/history/${encodeURIComponent(MARKUP)}`]) {
      await page.evaluate(hash => { location.hash = hash }, hash)
      if (hash.includes("tap")) await page.getByText("live", {exact: true}).waitFor()
      await publish({topic: MARKUP, event: "<b>event</b>", payload: {body: "<img src=x onerror=\"document.title='taken'\">"}})
      await shows(page, "<b>event</b>")
      await isText()
    }
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
    await page.getByText("1 socket", {exact: true}).waitFor()
    await page.getByRole("rowheader").getByRole("link").click()
    await page.getByRole("button", {name: "Close this socket…"}).focus()
    await page.keyboard.press("Enter")
    await page.getByText("1 socket will be closed").waitFor()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await shows(page, "The socket is closed.")
    assert.equal(await within(own.closed, "the end of the socket"), 1001)
    await context.close()
  })

  test("who may only read is offered nothing else", async () => {
    const {page, context} = await open({token: BOARD, hash: "#/topic/room%3Alobby"})
    await heading(page, "room:lobby")
    assert.deepEqual(await page.locator(".actions a").allInnerTexts(), ["Why"])
    assert.deepEqual(await page.locator("nav a.lacking").allTextContents(), ["Tap, needs the right tap", "Publish, needs the right publish", "Config, needs the right operate"])
    for (const [name, right] of [["tap", "tap"], ["history/room%3Alobby", "tap"], ["publish", "publish"], ["config", "operate"]]) {
      await page.evaluate(name => { location.hash = `#/${name}` }, name)
      await shows(page, `The token board lacks the right ${right}.`)
    }
    await clean(page, "a page that is not for everybody")
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

  test("ten thousand topics are shown a page at a time", async () => {
    const topics = Array.from({length: 10_000}, (_, n) => `many:${String(n).padStart(5, "0")}`)
    const crowd = await joined(server, topics)
    const {page, context} = await open({hash: "#/topics"})
    await heading(page, "Topics")
    const rows = page.getByRole("rowheader")
    await page.getByLabel("begins with").fill("many:")
    await shows(page, "10,000 topics")
    await page.getByLabel("order").selectOption("name")
    await page.getByRole("link", {name: "many:00000", exact: true}).waitFor()
    assert.equal(await rows.count(), 50)
    await page.getByRole("button", {name: "Next"}).click()
    await page.getByRole("link", {name: "many:00050", exact: true}).waitFor()
    assert.equal(await rows.count(), 50)
    await page.getByLabel("begins with").fill("many:09999")
    await page.getByText("1 topic", {exact: true}).waitFor()
    assert.ok(await page.evaluate(() => document.querySelectorAll("*").length) < 1_000)
    await context.close()
    crowd.terminate()
  })

  test("a page of another origin reads nothing, changes nothing and takes no tap", async () => {
    const attacker = createServer((_, answer) => answer.setHeader("content-type", "text/html").end("<form></form>"))
    await new Promise(resolve => attacker.listen(0, "127.0.0.1", resolve))
    const {context} = await open()
    const page = await context.newPage()
    // Another port of the same host: the browser sends the cookie, however strict it is.
    await page.goto(`http://127.0.0.1:${attacker.address().port}/`)
    const before = await server.counted("messages", "published")
    const seen = await page.evaluate(async admin => {
      const tried = (path, options) => fetch(admin + path, {credentials: "include", ...options}).then(answer => answer.type, () => "refused")
      const body = JSON.stringify({topic: "room:lobby", event: "taken", payload: {}})
      const plain = {method: "POST", mode: "no-cors", headers: {"content-type": "text/plain"}, body}
      const tap = new EventSource(`${admin}/api/tap?topic=room:*`, {withCredentials: true})
      const state = new Promise(resolve => { tap.onopen = () => resolve("open"); tap.onerror = () => resolve("refused") })
      return [
        await tried("/api/topics"), await tried("/api/publish", {method: "POST", headers: {"content-type": "application/json"}, body}),
        await tried("/api/publish", plain), await tried("/api/session", {method: "DELETE"}), await state,
      ]
    }, server.admin)
    assert.deepEqual(seen, ["refused", "refused", "opaque", "refused", "refused"])
    assert.equal(await server.counted("messages", "published"), before)
    const own = await context.newPage()
    await own.goto(server.admin)
    await heading(own, "Overview")
    await context.close()
    attacker.close()
  })

  test("what closes more than a hundred sockets wants their number typed", async () => {
    const {page, context} = await open({hash: "#/topics"})
    await page.route("**/api/sockets?limit=1", route => route.fulfill({json: {sockets: [], total: 250}}))
    await page.route("**/api/drain", route => route.fulfill({json: {limit_s: 30}}))
    await page.evaluate(() => { location.hash = "#/config" })
    await page.getByRole("button", {name: "Drain this node…"}).click()
    const yes = page.getByRole("button", {name: "Drain it"})
    await page.getByLabel("Type 250 to go on").fill("25")
    assert.ok(await yes.isDisabled())
    await page.getByLabel("Type 250 to go on").fill("250")
    await yes.click()
    await shows(page, "ends within 30 s")
    await context.close()
  })

  test("the nodes of a cluster are listed, this one first, and those that are gone last", async () => {
    const {page, context} = await open({hash: "#/topics"})
    const node = (node, name, self, sockets, more) => ({node, name, self, version: "0.1.0", sockets, topics: 7, joins: 2 * sockets, ...more})
    const figures = {published_per_s: 12.3, delivered_per_s: 9744, p99_ms: 3.1}
    const nodes = [
      node("00000001-a", "node-1", true, 12_000, {...figures, admin_url: "https://node-1.example.com/"}),
      node("00000002-b", null, false, 400, {published_per_s: null, delivered_per_s: null, p99_ms: null, admin_url: null}),
      node("00000004-d", "<b>node-4</b>", false, 0, {...figures, admin_url: "https://node-4.example.com/console"}),
      node("00000005-e", "node-5", false, 0, {...figures, admin_url: "javascript:alert(1)"}),
    ]
    const gone = [{node: "00000003-c", name: "node-3", version: "0.1.0", heard_s: 75.2, left: false}]
    await page.route("**/api/nodes", route => route.fulfill({json: {nodes, gone, total: {nodes: 2, sockets: 12_400, joins: 24_800}}}))
    await page.evaluate(() => { location.hash = "#/" })
    await shows(page, "2 nodes have 12,400 sockets")
    const rows = page.getByRole("region", {name: "Nodes"}).getByRole("rowheader")
    assert.deepEqual(await rows.allInnerTexts(), ["node-1 (this one)", "00000002-b", "<b>node-4</b>", "node-5", "node-3"])
    const cells = await page.getByRole("region", {name: "Nodes"}).getByRole("row").nth(1).getByRole("cell").allInnerTexts()
    assert.deepEqual(cells.slice(-4), ["12.3", "9,744", "3.1", "0.1.0"])
    const ofOlder = await page.getByRole("region", {name: "Nodes"}).getByRole("row").nth(2).getByRole("cell").allInnerTexts()
    assert.deepEqual(ofOlder.slice(-4), ["–", "–", "–", "0.1.0"])
    const links = await page.getByRole("region", {name: "Nodes"}).getByRole("link").evaluateAll(all => all.map(a => [a.textContent, a.href, a.rel]))
    assert.deepEqual(links, [["<b>node-4</b>", "https://node-4.example.com/console", "noopener noreferrer"]])
    await shows(page, "gone, heard 1 m 15 s ago")
    await clean(page, "nodes")
    await context.close()
  })

  test("the log is changed and the configuration checked", async () => {
    const {page, context} = await open({hash: "#/config"})
    await PAGES.config.ready(page)
    const row = page.getByRole("row").filter({hasText: "limits.joins_max"})
    await row.getByText("fanfare.toml:3").waitFor()
    await page.getByRole("row").filter({hasText: "admin.token_env"}).getByText("FANFARE_ADMIN_TOKEN").waitFor()
    await page.getByRole("button", {name: "Check"}).click()
    await shows(page, "It would change: nothing.")
    await page.getByLabel("level, such as").fill("debug")
    await page.getByRole("button", {name: "Change the log"}).click()
    await page.getByText("configured is").waitFor()
    await page.getByLabel("level, such as").fill("loud")
    await page.getByRole("button", {name: "Change the log"}).click()
    await page.getByRole("alert").waitFor()
    await page.getByLabel("contains").fill("limits.joins_max")
    await page.getByText("1 key", {exact: true}).waitFor()
    assert.ok(!(await page.locator("main").innerText()).includes(TOKEN))
    await context.close()
  })

  // The last one: it ends the server.
  test("a lost connection is told, and one that comes back is used", async () => {
    const {page, context} = await open()
    await page.getByText("live", {exact: true}).waitFor()
    await server.stop("SIGKILL")
    await shows(page, /no connection since \d\d:\d\d:\d\d/)
    await server.start()
    // It knows no sessions of before.
    await shows(page, "Your session has ended")
    await page.getByLabel("API token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await page.getByText("live", {exact: true}).waitFor()
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
  const replies = new Promise(resolve => {
    let left = topics.length
    socket.on("message", text => JSON.parse(text)[3] === "phx_reply" && --left === 0 && resolve())
  })
  topics.forEach((topic, n) => socket.send(JSON.stringify([String(n), String(n), topic, "phx_join", {}])))
  await within(replies, "the answers to joins")
  return socket
}
