// A tab that sleeps while the network changes, with the stock client: it is back with its presence and with what it has missed.

import assert from "node:assert/strict"
import {join} from "node:path"
import {after, before, describe, test} from "node:test"
import {fileURLToPath} from "node:url"
import {build} from "esbuild"
import {chromium} from "playwright-core"
import {ARGS} from "../support/browser.mjs"
import {eventually} from "../support/deadline.mjs"
import {startProxy} from "../support/proxy.mjs"
import {Visit, anon, enter, startSupabase, user} from "../support/supabase.mjs"

const ROOT = join(fileURLToPath(import.meta.url), "../..")

describe("a sleeping tab", () => {
  let browser, server, proxy, visit
  before(async () => {
    browser = await chromium.launch({executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGS})
    server = await startSupabase()
    proxy = await startProxy(server.port)
    visit = new Visit(server)
  })
  after(async () => {
    await visit.end()
    await browser.close()
    await proxy.close()
    await server.remove()
  })

  /** The client as npm has it, for pages. */
  async function client() {
    const {outputFiles: [file]} = await build({
      stdin: {contents: 'export {RealtimeClient} from "@supabase/realtime-js"', resolveDir: ROOT},
      bundle: true, format: "iife", globalName: "supabase", write: false,
    })
    return file.text
  }

  test("is back with presence and replay", async () => {
    const page = await browser.newPage()
    await page.goto(`${proxy.http}/`)
    await page.evaluate(await client())
    await page.evaluate(`
      var shown = [], joined = 0
      const client = new supabase.RealtimeClient("${proxy.ws}/realtime/v1", {params: {apikey: "${anon()}"}})
      client.setAuth("${user("tab")}")
      // What the guide says: the stock client repeats this whenever it joins again.
      const replay = {since: Date.now(), limit: 25}
      const config = {private: true, presence: {key: "tab", enabled: true}, broadcast: {replay}}
      const channel = client.channel("team:sleep", {config})
      channel.on("presence", {event: "sync"}, () => {})
      channel.on("broadcast", {event: "n"}, ({payload, meta}) => {
        if (!shown.includes(payload.n)) shown.push(payload.n)
        replay.since = Date.now()
      })
      channel.subscribe(status => {
        if (status === "SUBSCRIBED") { joined++; channel.track({here: joined}) }
      })
    `)
    const witness = visit.client("realtime-js 2.119")
    await witness.setAuth(user("witness"))
    const channel = witness.channel("team:sleep", {config: {private: true, presence: {key: "witness", enabled: true}, broadcast: {ack: true}}})
    channel.on("presence", {event: "sync"}, () => {})
    await enter(channel)
    const here = n => channel.presenceState().tab?.[0]?.here === n
    const say = n => channel.send({type: "broadcast", event: "n", payload: {n}})
    await eventually(() => here(1), "the tab")
    assert.equal(await say(1), "ok")
    await eventually(() => page.evaluate("shown.length === 1"), "the first message")

    const session = await page.context().newCDPSession(page)
    await session.send("Page.setWebLifecycleState", {state: "frozen"})
    proxy.cut()
    await eventually(() => !channel.presenceState().tab, "the tab to be gone")
    for (const n of [2, 3, 4]) assert.equal(await say(n), "ok")
    proxy.mend()
    await session.send("Page.setWebLifecycleState", {state: "active"})
    await page.bringToFront()
    await eventually(() => here(2), "the tab to be back")
    await eventually(() => page.evaluate("shown.length >= 4"), "what was missed")
    assert.equal(await say(5), "ok")
    await eventually(() => page.evaluate("shown.length >= 5"), "what comes")
    assert.deepEqual(await page.evaluate("shown"), [1, 2, 3, 4, 5])
    await page.close()
  })
})
