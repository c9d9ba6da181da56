// PyPI's realtime, which speaks version 1.0.0 and reads strictly, in channels with the npm client.

import assert from "node:assert/strict"
import {after, before, describe, test} from "node:test"
import {eventually} from "../support/deadline.mjs"
import {Python} from "../support/python.mjs"
import {Visit, anon, broadcasts, enter, startSupabase, user} from "../support/supabase.mjs"

describe("PyPI's realtime", {concurrency: 4}, () => {
  let server
  before(async () => {
    server = await startSupabase()
  })
  after(() => server.remove())

  async function withPython(run) {
    const [python, visit] = [new Python(server), new Visit(server)]
    try {
      await run(python, visit)
    } finally {
      python.end()
      await visit.end()
    }
  }

  test("chats with the npm client", () => withPython(async (python, visit) => {
    const npm = visit.client("realtime-js 2.119").channel("python chat", {config: {broadcast: {ack: true}}})
    const heard = broadcasts(npm, "msg")
    await enter(npm)
    python.tell({join: "python chat"})
    assert.equal(await python.nextOf("state"), "SUBSCRIBED")
    python.tell({send: "msg", topic: "python chat", payload: {body: "from Python"}})
    assert.deepEqual((await heard.next()).payload, {body: "from Python"})
    // What it cannot read it logs: bytes, which it does not get, and payloads that are no objects.
    await npm.send({type: "broadcast", event: "bytes", payload: Uint8Array.from([1]).buffer})
    assert.equal(await npm.send({type: "broadcast", event: "msg", payload: {body: "from npm"}}), "ok")
    assert.deepEqual(await python.nextOf("heard"), {body: "from npm"})
  }))

  test("sees who is there, and is seen", () => withPython(async (python, visit) => {
    const config = {presence: {key: "npm", enabled: true}}
    const npm = visit.client("realtime-js 2.119").channel("python who", {config})
    npm.on("presence", {event: "sync"}, () => {})
    await enter(npm)
    await npm.track({from: "npm"})
    python.tell({join: "python who", config: {presence: {key: "py", enabled: true}}})
    assert.equal(await python.nextOf("state"), "SUBSCRIBED")
    python.tell({track: {from: "Python"}, topic: "python who"})
    await eventually(() => npm.presenceState().py?.[0]?.from === "Python", "Python in the npm client's state")
    await eventually(async () => {
      python.tell({state: "python who"})
      const present = await python.nextOf("present")
      return present.npm?.[0]?.from === "npm" && present.py?.length === 1
    }, "both in Python's state")
    python.tell({leave: "python who"})
    await eventually(() => !("py" in npm.presenceState()), "the end of Python")
  }))

  test("is admitted in private channels with a token, and stays", () => withPython(async python => {
    python.tell({join: "team:python", config: {private: true}})
    assert.match(await python.nextOf("logged"), /Unauthorized: You do not have permissions to read from this Channel topic: team:python/)
    python.tell({auth: user("py")})
    await python.nextOf("authorized", ["logged", "state"])
    python.tell({join: "team:python 2", config: {private: true}})
    for (;;) if (await python.nextOf("state", ["logged"]) === "SUBSCRIBED") break
  }))

  test("comes back to a channel whose changes are not served", () => withPython(async python => {
    python.tell({join: "python changes", changes: true})
    const states = []
    while (states.at(-1) !== "SUBSCRIBED" || states.length < 2) {
      const told = await python.next()
      if ("state" in told) states.push(told.state)
      if (states.length > 6) break
    }
    assert.equal(states.at(-1), "SUBSCRIBED", states.join())
  }))
})
