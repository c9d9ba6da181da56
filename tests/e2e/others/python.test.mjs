// Other clients from PyPI, as they are, in a room with the npm client.

import assert from "node:assert/strict"
import {spawn} from "node:child_process"
import {after, before, describe, test} from "node:test"
import {fileURLToPath} from "node:url"
import {Socket} from "phoenix"
import WebSocket from "ws"
import {answer, inbox} from "../support/clients.mjs"
import {within} from "../support/deadline.mjs"
import {linesOf} from "../support/lines.mjs"
import {startServe} from "../support/process.mjs"

const TOPIC = "room:python"
const CONFIG = "[[endpoint]]\n[[channel]]\ntopic = 'room:*'\njoin = 'open'\npublish = 'open'\n"
const SCRIPT = fileURLToPath(new URL("python_clients.py", import.meta.url))

describe("other clients from PyPI", () => {
  let server, socket, room, heard
  before(async () => {
    server = await startServe(CONFIG)
    socket = new Socket(`${server.ws}/socket`, {transport: WebSocket})
    socket.connect()
    room = socket.channel(TOPIC)
    heard = inbox(room, "new_msg")
    await answer(room.join())
  })
  after(async () => {
    socket.disconnect()
    await server.remove()
  })

  test("chunnel 0.1.0 joins, pushes, hears the others and leaves", async () => {
    await withClient("chunnel", ".venv", async lines => {
      assert.deepEqual(await nextJson(lines), {joined: {}})
      assert.deepEqual(await heard.next(), {body: "from chunnel"})
      assert.deepEqual(await nextJson(lines), {event: "new_msg", payload: {body: "from chunnel"}})
      room.push("new_msg", {body: "from npm"})
      assert.deepEqual(await nextJson(lines), {event: "new_msg", payload: {body: "from npm"}})
      assert.deepEqual(await nextJson(lines), {reply: {}})
      assert.deepEqual(await nextJson(lines), {left: true})
      await heard.next()
    })
  })

  test("phx-events 0.4.1 joins by binary frames with JSON, and hears the others", async () => {
    await withClient("phx_events", ".venv-phx-events", async lines => {
      assert.deepEqual(await nextJson(lines), {joined: "SUCCESS"})
      room.push("new_msg", {body: "from npm"})
      assert.deepEqual(await nextJson(lines), {event: "new_msg", payload: {body: "from npm"}})
      await heard.next()
    })
  })

  test("phoenix-channels-python-client 0.4.1 joins and hears the others, as a client of version 1.0.0", async () => {
    await withClient("phoenix_channels_python_client", ".venv", async lines => {
      assert.deepEqual(await nextJson(lines), {joined: true})
      room.push("new_msg", {body: "from npm"})
      assert.deepEqual(await nextJson(lines), {event: "new_msg", payload: {body: "from npm"}})
      await heard.next()
    })
  })

  async function withClient(name, venv, talk) {
    const python = fileURLToPath(new URL(`../python/${venv}/bin/python`, import.meta.url))
    const child = spawn(python, [SCRIPT, name, `${server.ws}/socket/websocket`], {stdio: ["ignore", "pipe", "inherit"]})
    try {
      await talk(linesOf(child.stdout))
    } finally {
      child.kill("SIGKILL")
    }
  }
})

/** The next line that is JSON: one of the clients prints its address. */
async function nextJson(lines) {
  for (;;) {
    const {value, done} = await within(lines.next(), "a line of the client")
    assert.ok(!done, "the client has ended")
    if (value.startsWith("{")) return JSON.parse(value)
  }
}
