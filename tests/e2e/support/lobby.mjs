// A person at the demo page, as the tests of it see them.

import assert from "node:assert/strict"
import {DEADLINE_MS, eventually} from "./deadline.mjs"

export const TRANSPORTS = {websocket: "WebSocket", longpoll: "Long-poll"}

const DESKTOP = {width: 1280, height: 800}

/** A person at the page, in a browser profile of their own. `troubles` has what the page should not have done. */
export async function visitLobby(browser, server, name, options = {}) {
  const {transport = "websocket", address = server.http, viewport = DESKTOP, colorScheme = "light"} = options
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
  if (transport !== "websocket") await person.switchTo(transport)
  await person.isInState("open")
  await person.callMyself(name)
  return person
}

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
    const message = this.page.locator(".message", {has: this.page.locator(".head bdi").getByText(name, {exact: true})})
    return message.getByText(body, {exact: true}).first().waitFor()
  }

  /** What was said, as far as this person sees it. */
  bodies() {
    return this.page.locator(".message .text").allTextContents()
  }

  /** The people who are there, the person itself first. */
  sees(names) {
    const now = () => this.page.locator("#people bdi").allTextContents()
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

  /** Disconnects, so that the others need not wait for the server to notice. */
  async leave() {
    await this.page.getByRole("button", {name: "Disconnect"}).click()
    await this.isInState("closed")
  }
}
