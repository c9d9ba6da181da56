// Resuming without the package, by the lines in its README.

import assert from "node:assert/strict"
import {checks, checksWithOwnServer} from "../support/check.mjs"
import {Inbox, eventually} from "../support/deadline.mjs"
import {block} from "../support/readme.mjs"
import {closed, cut, expectNumbers, publish, startWithHistory} from "../support/resume.mjs"

/** A page that has joined by the README's lines. `box` has what it shows; it has loaded everything `loads` times. */
async function load(visit, topic, storage = new Map()) {
  const page = {box: new Inbox(`what the page of ${topic} shows`), loads: 0}
  const localStorage = {getItem: key => storage.get(key) ?? null, setItem: (key, value) => storage.set(key, value)}
  const code = block("by-hand").replace("room:lobby", topic)
  const run = new Function("socket", "localStorage", "show", "loadEverything", `${code}\nreturn lobby`)
  page.channel = run(visit.connect(), localStorage, payload => page.box.put(payload), () => (page.loads += 1))
  page.storage = storage
  await eventually(() => page.channel.state === "joined", "the join")
  return page
}

checks("resuming by hand", check => {
  check("what is missed comes on return, and after the page was loaded again", {}, async visit => {
    const topic = visit.topic()
    const proxy = await visit.through({})
    const {channel, box, storage} = await load(visit, topic)
    await publish(visit.server, topic, 1, 2)
    await expectNumbers(assert, box, 1, 2)
    await cut(proxy, channel)
    await publish(visit.server, topic, 3, 4)
    proxy.mend()
    await expectNumbers(assert, box, 3, 4)
    await closed(channel.socket)
    const last = await publish(visit.server, topic, 5, 6)
    const again = await load(visit, topic, storage)
    await expectNumbers(assert, again.box, 5, 6)
    assert.deepEqual([again.loads, storage.get("position"), again.box.rest()], [0, last, []])
  })

  check("what is not kept any more is told", {}, async visit => {
    const topic = visit.topic("short")
    const proxy = await visit.through({})
    const page = await load(visit, topic)
    await cut(proxy, page.channel)
    await publish(visit.server, topic, 1, 5)
    proxy.mend()
    await eventually(() => page.loads > 0, "everything to be loaded")
    await publish(visit.server, topic, 6)
    await expectNumbers(assert, page.box, 6)
    assert.equal(page.loads, 1)
  })
}, startWithHistory)

checksWithOwnServer("resuming by hand", check => {
  check("a server that starts anew has forgotten: it is told", {}, async visit => {
    const topic = visit.topic()
    const page = await load(visit, topic)
    await publish(visit.server, topic, 1, 2)
    await expectNumbers(assert, page.box, 1, 2)
    await visit.server.stop("SIGKILL")
    await eventually(() => page.channel.state === "errored", "the client to notice")
    await visit.server.start()
    await eventually(() => page.loads > 0, "everything to be loaded")
    await publish(visit.server, topic, 3)
    await expectNumbers(assert, page.box, 3)
    assert.equal(page.loads, 1)
  })
}, startWithHistory)
