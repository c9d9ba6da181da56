// The demo page on the nodes of `fanfare cluster demo`: one is killed, and the chat of those who were on it goes on on the other.

import assert from "node:assert/strict"
import {execFileSync} from "node:child_process"
import {after, before, describe, test} from "node:test"
import {chromium} from "playwright-core"
import {ARGS} from "../support/browser.mjs"
import {eventually} from "../support/deadline.mjs"
import {TRANSPORTS, visitLobby} from "../support/lobby.mjs"
import {startClusterDemo} from "../support/process.mjs"

describe("nodes of a cluster", () => {
  let browser
  before(async () => {
    browser = await chromium.launch({executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGS})
  })
  after(() => browser.close())

  for (const transport of Object.keys(TRANSPORTS)) {
    test(`a killed node's page goes on on the other (${transport})`, async () => {
      const demo = await startClusterDemo(2)
      const people = []
      try {
        const [ann, bob] = [await visitLobby(browser, demo, "Ann", {transport}), await visitLobby(browser, demo, "Bob", {transport})]
        people.push(ann, bob)
        await ann.sees(["Ann", "Bob"])
        await bob.say("one")
        await ann.hears("Bob", "one")
        const lost = await nodeOf(ann)
        const told = demo.told.find(line => line.includes(`${lost} `))
        execFileSync("sh", ["-c", told.split("kill it: ")[1]])
        // Whoever was on the other node stays there.
        await eventually(async () => ![null, lost].includes(await nodeOf(ann)) && await nodeOf(bob) !== lost, "another node")
        await ann.hears("Bob", "one")
        await bob.say("two")
        await ann.hears("Bob", "two")
        await ann.say("three")
        await bob.hears("Ann", "three")
        assert.deepEqual(people.flatMap(({troubles}) => troubles), [])
      } finally {
        for (const {context} of people) await context.close()
        await demo.stop("SIGINT")
      }
    })
  }
})

/** What the page says about where it is. */
async function nodeOf(person) {
  const [node] = (await person.page.locator("#state-text").textContent()).match(/node-\d+/) ?? [null]
  return node
}
