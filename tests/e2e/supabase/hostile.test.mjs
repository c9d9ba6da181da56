// Members that mean harm: whatever they send, no stock client is brought down, and the channel goes on.

import assert from "node:assert/strict"
import {test} from "node:test"
import {Inbox, eventually} from "../support/deadline.mjs"
import {Python} from "../support/python.mjs"
import {CLIENTS, Visit, broadcasts, enter, rawMember, startSupabase} from "../support/supabase.mjs"

const TOPIC = "realtime:room"
const MUTATED = 10_000

/** Numbers that are the same in each run. */
function numbers(seed) {
  return below => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
    return seed % below
  }
}

function kind3(event, meta, encoding, payload) {
  const parts = ["1", "2", TOPIC, event, meta].map(part => Buffer.from(part))
  const head = Buffer.from([3, ...parts.map(part => part.length & 255), encoding])
  return Buffer.concat([head, ...parts, Buffer.from(payload)])
}

const KEYS = ["ids", "__proto__", "constructor", "toString", "hasOwnProperty", "valueOf", ""]

/** Frames that a client may well send, to begin with. */
const TEMPLATES = [
  kind3("msg", "", 1, '{"a":1}'),
  kind3("msg", '{"persist":true}', 1, '[1,{"b":null}]'),
  kind3("msg", "x".repeat(255), 0, "bytes"),
  kind3("presence_diff", "", 1, '{"joins":{"ids":{"metas":[]}},"leaves":null}'),
  kind3("presence_state", "", 1, '{"ids":5}'),
  kind3("phx_close", "", 1, "{}"),
  ...["broadcast", "presence", "access_token", "phx_leave", "postgres_changes", "system", "presence_state"].flatMap(event => [
    JSON.stringify(["1", "3", TOPIC, event, {type: event, event: "msg", payload: {ids: [1], data: null, errors: 7}}]),
    JSON.stringify(["1", null, TOPIC, event, {type: "presence", event: "track", payload: {metas: [], phx_ref: 5, presence_ref: {}}}]),
  ]),
  ...KEYS.map(key => JSON.stringify(["1", "1", TOPIC, "phx_join", {config: {presence: {key, enabled: true}}}])),
  JSON.stringify(["1", "4", TOPIC, "presence", {event: "track", payload: JSON.parse('{"__proto__":{"x":1},"constructor":5,"length":-1}')}]),
]

function mutate(frame, below) {
  const bytes = Buffer.from(frame)
  const count = below(4)
  for (let n = 0; n < count; n++) {
    const at = below(bytes.length)
    switch (below(3)) {
      case 0: bytes[at] = below(256); break
      case 1: bytes[at] ^= 1 << below(8); break
      default: bytes.copy(bytes, at, below(bytes.length))
    }
  }
  return below(8) === 0 ? bytes.subarray(0, below(bytes.length)) : bytes
}

test(`${MUTATED} mutated frames of a member crash no stock client`, async () => {
  const server = await startSupabase()
  const visit = new Visit(server)
  const python = new Python(server)
  const crashes = []
  const note = error => crashes.push(error)
  process.on("uncaughtException", note)
  process.on("unhandledRejection", note)
  try {
    const members = await Promise.all(Object.keys(CLIENTS).map(async (name, n) => {
      const channel = visit.client(name).channel("room", {config: {presence: {key: `member ${n}`, enabled: true}}})
      const heard = broadcasts(channel, "over")
      channel.on("broadcast", {event: "*"}, () => {})
      channel.on("presence", {event: "sync"}, () => channel.presenceState())
      channel.on("presence", {event: "join"}, () => {})
      channel.on("presence", {event: "leave"}, () => {})
      const told = await enter(channel)
      assert.equal(await channel.track({n}), "ok")
      return {name, channel, heard, told}
    }))
    python.tell({join: "room", config: {presence: {key: "python", enabled: true}}})
    assert.equal(await python.nextOf("state"), "SUBSCRIBED")
    python.tell({track: {n: "python"}, topic: "room"})
    const below = numbers(1)
    let [socket, sent] = [null, 0]
    while (sent < MUTATED) {
      if (socket === null || socket.readyState !== 1) {
        // A member that sends too many frames that are none is closed, and comes again.
        socket = await rawMember(server, "2.0.0")
        socket.send(TEMPLATES.find(frame => String(frame).includes("phx_join")))
      }
      for (let n = 0; n < 50; n++, sent++) {
        const template = TEMPLATES[below(TEMPLATES.length)]
        const frame = mutate(template, below)
        socket.send(frame, {binary: typeof template !== "string"})
      }
      await new Promise(resolve => setTimeout(resolve, 2))
    }
    socket.terminate()
    // Whoever comes anew, too, and all are as they were.
    for (const name of Object.keys(CLIENTS)) {
      const channel = visit.client(name).channel("room", {config: {presence: {key: `late ${name}`, enabled: true}}})
      channel.on("presence", {event: "sync"}, () => {})
      await enter(channel)
      assert.equal(await channel.track({}), "ok")
      await eventually(() => Object.keys(channel.presenceState()).length >= 5, `all members for ${name}`)
      await channel.unsubscribe()
    }
    const last = visit.client("realtime-js 2.119").channel("room")
    await enter(last)
    await last.send({type: "broadcast", event: "over", payload: {}})
    for (const {heard} of members) await heard.next()
    // What PyPI's cannot read it logs, and goes on.
    await last.send({type: "broadcast", event: "msg", payload: {over: true}})
    while (!(await python.nextOf("heard", ["logged", "state"])).over);
    assert.deepEqual(crashes, [])
    assert.ok(await server.counted("drops", "malformed_frame") > 100)
  } finally {
    process.off("uncaughtException", note)
    process.off("unhandledRejection", note)
    python.end()
    await visit.end()
    await server.remove()
  }
})
