// A client of another language and the older protocol version: Python's phxsocket, in rooms with the npm client.

import assert from "node:assert/strict"
import {spawn} from "node:child_process"
import {once} from "node:events"
import {dirname, join} from "node:path"
import {createInterface} from "node:readline"
import {after, before, describe, test} from "node:test"
import {fileURLToPath} from "node:url"
import {CLIENTS, Visit, answer, inbox} from "../support/clients.mjs"
import {Inbox, within} from "../support/deadline.mjs"
import {startOracle} from "../support/process.mjs"

const HERE = dirname(fileURLToPath(import.meta.url))
const NPM_CLIENT = CLIENTS[0]

describe("phxsocket", {concurrency: 4}, () => {
  let server
  before(async () => {
    server = await startOracle()
  })
  after(() => server.remove())

  test("joins, pushes and is answered", () => withPython(server, {user: "py"}, async python => {
    const topic = "room:python-replies"
    assert.deepEqual(await python.ask({join: topic, params: {a: 1}}), {joined: {topic, params: {a: 1}, user: "py"}})
    for (const payload of [{text: "ünï→"}, [1, 2], "text", 3, null]) {
      assert.deepEqual(await python.ask({push: "echo", topic, payload}), {reply: {status: "ok", response: payload}})
    }
    assert.deepEqual(await python.ask({push: "fail", topic, payload: {}}), {reply: {status: "error", response: {reason: "nope"}}})
    const {reply} = await python.ask({push: "assigns", topic, payload: {}})
    assert.equal(reply.response.serializer, "Phoenix.Socket.V1.JSONSerializer")
  }))

  for (const [topic, reason] of [["room:secret", "unauthorized"], ["room:crash", "join crashed"], ["elsewhere", "unmatched topic"]]) {
    test(`is refused in ${topic}, and can join another`, () => withPython(server, {}, async python => {
      assert.deepEqual(await python.ask({join: topic}), {refused: {reason}})
      assert.ok((await python.ask({join: "room:python-other"})).joined)
    }))
  }

  test("chats with the npm client", () => withPython(server, {}, async python => {
    const topic = "room:python-chat"
    const visit = new Visit(NPM_CLIENT, server)
    try {
      const npm = await visit.join(topic)
      const heard = inbox(npm, "new_msg")
      await python.ask({join: topic})
      python.tell({send: "new_msg", topic, payload: {body: "from Python"}})
      assert.deepEqual(await heard.next(), {body: "from Python"})
      assert.deepEqual(await python.next(), {event: "new_msg", payload: {body: "from Python"}})
      npm.push("new_msg", {body: "from npm"})
      assert.deepEqual(await python.next(), {event: "new_msg", payload: {body: "from npm"}})
      // Version 1.0.0 has no binary frames.
      await answer(npm.push("echo", {}))
      npm.push("bin_broadcast", Uint8Array.from([0, 255]).buffer)
      assert.deepEqual(await python.next(), {event: "bin_out", payload: {binary: "AP8="}})
    } finally {
      await visit.end()
    }
  }))

  test("sees who is present", () => withPython(server, {}, async python => {
    const topic = "presence:python"
    // The state and the diff about itself come in either order, and the client tells of its join from another thread.
    const first = [await python.ask({join: topic, params: {key: "py", meta: {n: 1}}}), await python.next(), await python.next()]
    assert.deepEqual(first.filter(({joined}) => joined), [{joined: {}}])
    const state = first.find(({event}) => event === "presence_state")
    const [{phx_ref, ...meta}] = state.payload.py.metas
    assert.deepEqual(meta, {n: 1})
    const diff = first.find(({event}) => event === "presence_diff")
    assert.equal(diff.payload.joins.py.metas[0].phx_ref, phx_ref)
  }))

  test("leaves, and hears no more", () => withPython(server, {}, async python => {
    const topic = "room:python-leaves"
    await python.ask({join: topic})
    assert.deepEqual(await python.ask({leave: topic}), {left: topic})
    await server.post("/publish", {topic, event: "news", payload: {}})
    await python.ask({join: "room:python-after"})
    assert.deepEqual(python.rest(), [])
  }))

  test("stays connected by its heartbeats", () => withPython(server, {}, async python => {
    const topic = "room:python-heartbeat"
    await python.ask({join: topic})
    assert.deepEqual(await python.ask({push: "slow", topic, payload: {ms: 2_500}}), {reply: {status: "ok", response: {ms: 2_500}}})
  }, "/short"))

  test("is refused with a bad token", () => withPython(server, {token: "bad"}, async python => {
    assert.match((await python.next()).refused, /403/)
  }))

  test("is closed by the disconnect broadcast", () => withPython(server, {user: "python-gone"}, async python => {
    await python.ask({join: "room:python-gone"})
    await server.post("/disconnect?id=user_socket:python-gone")
    assert.deepEqual(await python.next(), {closed: true})
  }))
})

/** Runs `talk` with a Python client connected to `mount` of the server. */
async function withPython(server, params, talk, mount = "/socket") {
  const url = `${server.ws}${mount}/websocket`
  const child = spawn(join(HERE, ".venv/bin/python"), [join(HERE, "client.py"), url, JSON.stringify(params)], {
    stdio: ["pipe", "pipe", "inherit"],
  })
  const ended = once(child, "exit")
  const happened = new Inbox("something from the Python client")
  createInterface({input: child.stdout}).on("line", line => happened.put(JSON.parse(line)))
  const python = {
    next: () => happened.next(),
    rest: () => happened.rest(),
    tell: command => child.stdin.write(`${JSON.stringify(command)}\n`),
    ask: command => {
      python.tell(command)
      return happened.next()
    },
  }
  try {
    if (params.token !== "bad") assert.deepEqual(await python.next(), {connected: true})
    await talk(python)
    child.stdin.end()
    await within(ended, "the end of the Python client")
  } finally {
    child.kill("SIGKILL")
  }
}
