// What the demo pages look like, in both schemes, on desktops and phones: nothing scrolls sideways, the field to write in is in
// view however many people are there, and text can be read. A person compares the screenshots, which go to $SCREENSHOTS when
// that names a folder; those that begin with `guide-`, and `hub-guide-light`, are in docs/images.

import assert from "node:assert/strict"
import {mkdirSync, mkdtempSync, rmSync} from "node:fs"
import {tmpdir} from "node:os"
import {join} from "node:path"
import {after, before, describe, test} from "node:test"
import {chromium} from "playwright-core"
import {ARGS} from "../support/browser.mjs"
import {DEADLINE_MS} from "../support/deadline.mjs"
import {visitLobby} from "../support/lobby.mjs"
import {startDev} from "../support/process.mjs"

const SIZES = {
  desktop: {width: 1280, height: 800},
  guide: {width: 1000, height: 640},
  phone: {width: 360, height: 740},
  "phone-keyboard": {width: 360, height: 400},
  "phone-landscape": {width: 844, height: 390},
}
const SCHEMES = ["light", "dark"]
// What WCAG 2.1 asks of text at level AA.
const CONTRAST_MIN = 4.5

describe("screenshots", () => {
  let browser, folder, server
  before(async () => {
    browser = await chromium.launch({executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGS})
    folder = mkdtempSync(join(tmpdir(), "fanfare-screenshots-"))
    server = await startDev(folder)
  })
  after(async () => {
    await browser.close()
    await server.stop("SIGKILL")
    rmSync(folder, {recursive: true})
  })

  test("the lobby, with many people and long names", async () => {
    const names = ["Ann", "Bartholomew Featherstonehaugh-Marchbanks", "Cleo Mendes", "דנה לוי"]
    const people = []
    for (const name of names) people.push(await visitLobby(browser, server, name))
    for (let n = 1; n <= 8; n++) people.push(await visitLobby(browser, server, `Guest ${n}`))
    const [ann, long, cleo, dana] = people
    await long.say(`a long word: ${"x".repeat(300)}`)
    await dana.say("שלום לכולם!")
    await cleo.say("Good morning! Is the stage ready?")
    await ann.say("Nearly. The trumpets are still being tuned.")
    await cleo.hears("Ann", "Nearly. The trumpets are still being tuned.")
    await look(ann.page, "lobby")
    await ann.leave()
    await look(ann.page, "lobby-closed")
    for (const {context} of people) await context.close()
  })

  test("the picture of the guides: somebody was away", async () => {
    const fresh = await startDev(folder)
    const people = []
    for (const name of ["Ann", "Bob", "Cleo Mendes", "Dana Levi"]) people.push(await visitLobby(browser, fresh, name))
    const [ann, bob, cleo] = people
    const [{page}] = people
    await page.setViewportSize(SIZES.guide)
    await bob.say("Good morning! Is the stage ready?")
    await ann.say("Nearly. The trumpets are still being tuned.")
    await ann.hears("Ann", "Nearly. The trumpets are still being tuned.")
    await ann.leave()
    await cleo.say("They are ready now.")
    await bob.say("Then let’s open the doors.")
    await bob.hears("Bob", "Then let’s open the doors.")
    await page.getByRole("button", {name: "Connect", exact: true}).click()
    await page.getByText("Back again: 2 messages that you missed").waitFor()
    for (const colorScheme of SCHEMES) {
      await page.emulateMedia({colorScheme, reducedMotion: "reduce"})
      await keep(page, `guide-lobby-${colorScheme}`)
    }
    for (const {context} of people) await context.close()
    await fresh.stop("SIGKILL")
  })

  test("the lobby of one", async () => {
    const fresh = await startDev(folder)
    const ann = await visitLobby(browser, fresh, "Ann")
    await look(ann.page, "lobby-empty")
    await ann.context.close()
    await fresh.stop("SIGKILL")
  })

  test("the hub", async () => {
    const page = await open("hub")
    await look(page, "hub-empty")
    await page.getByRole("button", {name: "Subscribe"}).click()
    await page.locator("#subscriber [data-state=refused]").waitFor()
    await look(page, "hub-refused")
    await page.getByRole("button", {name: "Start"}).click()
    await page.locator("#publisher [data-state=open]").waitFor()
    await page.getByRole("button", {name: "Subscribe"}).click()
    await page.locator("#subscriber [data-state=open]").waitFor()
    await page.getByLabel("Message", {exact: true}).fill('{"price": 12.5}')
    await page.getByLabel("Message", {exact: true}).press("Enter")
    await page.locator(".message:not(.own)").getByText("12.5").waitFor()
    await look(page, "hub")
    await page.context().close()
  })

  test("the bridge", async () => {
    const page = await open("bullet")
    await look(page, "bridge-empty")
    await page.getByRole("button", {name: "Connect"}).click()
    await page.locator("#connection [data-state=open]").waitFor()
    await page.getByRole("button", {name: "Send"}).click()
    await page.locator(".message").getByText("status checked").waitFor()
    await look(page, "bridge")
    await page.context().close()
  })

  test("the rooms", async () => {
    const page = await open("rooms")
    await page.locator("#connection [data-state=open]").waitFor()
    await look(page, "rooms-empty")
    await page.getByRole("button", {name: "Join"}).click()
    await page.getByText("Joined room:lobby").waitFor()
    await page.getByLabel("Message", {exact: true}).fill("hello")
    await page.getByLabel("Message", {exact: true}).press("Enter")
    await page.locator(".message.own:not(.pending)").getByText("hello").waitFor()
    await page.getByLabel("Name", {exact: true}).fill("room:secret")
    await page.getByRole("button", {name: "Join"}).click()
    await page.getByRole("alert").getByText("unmatched topic").waitFor()
    await look(page, "rooms")
    await page.context().close()
  })

  test("the cursors", async () => {
    const [page, other] = [await open("supabase"), await open("supabase")]
    for (const [window, name] of [[page, "Ann"], [other, "Bartholomew Featherstonehaugh-Marchbanks"]]) {
      await window.locator("#state[data-state=open]").waitFor()
      await window.fill("#name", name)
      await window.press("#name", "Enter")
    }
    await page.locator("#people li").getByText("Bartholomew").waitFor()
    await look(page, "cursors-empty")
    await other.focus("#stage")
    await other.keyboard.press("ArrowRight")
    await page.locator(".cursor").getByText("Bartholomew").waitFor()
    await look(page, "cursors")
    await page.context().close()
    await other.context().close()
  })

  async function open(name) {
    const context = await browser.newContext({viewport: SIZES.desktop, locale: "en-GB"})
    const page = await context.newPage()
    page.setDefaultTimeout(DEADLINE_MS)
    await page.goto(`${server.http}/${name}.html`)
    return page
  }

  /** Looks at a page in every size and scheme. */
  async function look(page, name) {
    for (const [size, viewport] of Object.entries(SIZES)) {
      await page.setViewportSize(viewport)
      for (const colorScheme of SCHEMES) {
        const what = `${name}-${size}-${colorScheme}`
        await page.emulateMedia({colorScheme, reducedMotion: "reduce"})
        await keep(page, what)
        const {width, field, pale} = await page.evaluate(seen)
        assert.ok(width <= viewport.width, `${what}: ${width} px of content in ${viewport.width} px`)
        const inView = field.every(({top, bottom, left, right}) =>
          top >= 0 && left >= 0 && bottom <= viewport.height && right <= viewport.width)
        assert.ok(inView, `${what}: the form is at ${JSON.stringify(field)}`)
        const unreadable = pale.filter(({contrast}) => contrast < CONTRAST_MIN)
        assert.deepEqual(unreadable, [], `${what}: text that cannot be read`)
      }
    }
    await page.setViewportSize(SIZES.desktop)
    await page.emulateMedia({colorScheme: "light"})
  }
})

async function keep(page, name) {
  const folder = process.env.SCREENSHOTS
  if (!folder) return
  mkdirSync(folder, {recursive: true})
  await page.screenshot({path: join(folder, `${name}.png`), animations: "disabled"})
}

/** In the page: how wide it is, where one writes, and the contrast of each text that is enabled. */
function seen() {
  const numbers = color => color.match(/[\d.]+/g).map(Number)
  const luminance = ([red, green, blue]) => {
    const [r, g, b] = [red, green, blue].map(value => value / 255)
      .map(value => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const behind = node => {
    const color = numbers(getComputedStyle(node).backgroundColor)
    return (color[3] ?? 1) > 0 || !node.parentElement ? color : behind(node.parentElement)
  }
  const hasText = node => [...node.childNodes].some(child => child.nodeType === Node.TEXT_NODE && child.data.trim() !== "")
  const pale = [...document.querySelectorAll("body *")]
    .filter(node => node.checkVisibility() && hasText(node) && !node.closest(":disabled, script"))
    .map(node => {
      const [dark, light] = [numbers(getComputedStyle(node).color), behind(node)].map(luminance).sort((a, b) => a - b)
      return {text: node.textContent.slice(0, 40), contrast: (light + 0.05) / (dark + 0.05)}
    })
  const field = [...document.querySelectorAll(".compose input, .compose button")].map(node => {
    const {top, bottom, left, right} = node.getBoundingClientRect()
    return {top, bottom, left, right}
  })
  return {width: document.documentElement.scrollWidth, field, pale}
}
