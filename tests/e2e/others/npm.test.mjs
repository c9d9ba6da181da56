// Other npm packages that speak Phoenix Channels, as they are: older forks of the client, and libraries built on it.

import assert from "node:assert/strict"
import {mkdtempSync, rmSync} from "node:fs"
import {createRequire} from "node:module"
import {tmpdir} from "node:os"
import {join} from "node:path"
import {after, before, describe, test} from "node:test"
import {build} from "esbuild"
import {Socket} from "phoenix"
import WebSocket from "ws"
import {answer, happens, inbox} from "../support/clients.mjs"
import {eventually, within} from "../support/deadline.mjs"
import {startServe} from "../support/process.mjs"

const require = createRequire(import.meta.url)

const CONFIG = `
[[endpoint]]

[[channel]]
topic = "room:*"
join = "open"
publish = "open"
presence = true

[[channel]]
topic = "__absinthe__:control"
join = "open"
publish = "open"
broadcast = "others"
`

describe("other npm packages", () => {
  let server
  before(async () => {
    server = await startServe(CONFIG)
  })
  after(() => server.remove())

  test("phoenix-channels 1.0.0, a port to Node", async () => {
    const {Socket: Port, Presence} = require("phoenix-channels")
    const socket = new Port(`${server.ws}/socket`)
    await chat(socket, "room:port", Presence)
  })

  test("phoenix-socket 1.2.3, the client of an older Phoenix", async () => {
    globalThis.window = {WebSocket}
    try {
      const {Socket: Older} = require("phoenix-socket")
      await chat(new Older(`${server.ws}/socket`, {transport: WebSocket}), "room:older")
    } finally {
      delete globalThis.window
    }
  })

  test("phx-live-state 0.12.3 gets its state and its patches", async () => {
    globalThis.CustomEvent ??= class extends Event {
      constructor(type, {detail}) {
        super(type)
        this.detail = detail
      }
    }
    // It is made for bundlers: Node cannot resolve what it imports.
    const folder = mkdtempSync(join(tmpdir(), "fanfare-live-state-"))
    const outfile = join(folder, "bundle.mjs")
    const entry = {contents: 'export {LiveState} from "phx-live-state/build/src/LiveState.js"', resolveDir: import.meta.dirname}
    await build({stdin: entry, bundle: true, format: "esm", platform: "browser", outfile, logLevel: "error"})
    const {LiveState} = await import(outfile)
    rmSync(folder, {recursive: true})
    const live = new LiveState({url: `${server.ws}/socket`, topic: "room:live", socketOptions: {transport: WebSocket}})
    const states = []
    live.addEventListener("livestate-change", ({detail}) => states.push(detail.state))
    live.connect()
    await eventually(() => live.channel.state === "joined", "the channel of LiveState")
    await server.publish("room:live", "state:change", {state: {count: 1}, version: 1})
    await server.publish("room:live", "state:patch", {patch: [{op: "replace", path: "/count", value: 2}], version: 2})
    await eventually(() => states.length === 2, "both states")
    assert.deepEqual(states, [{count: 1}, {count: 2}])
    live.disconnect()
  })

  test("@absinthe/socket 0.2.1 joins its control topic and pushes its documents", async () => {
    const absinthe = require("@absinthe/socket")
    const listener = new Socket(`${server.ws}/socket`, {transport: WebSocket})
    listener.connect()
    const control = listener.channel("__absinthe__:control")
    const documents = inbox(control, "doc")
    await answer(control.join())

    const socket = new Socket(`${server.ws}/socket`, {transport: WebSocket})
    const holder = absinthe.create(socket)
    const notifier = absinthe.send(holder, {operation: "query { rooms { name } }", variables: {}})
    const ended = new Promise(resolve => absinthe.observe(holder, notifier, {onResult: resolve, onError: resolve, onAbort: resolve}))
    assert.match((await documents.next()).query, /rooms/)
    // What a document is answered with is up to the application; a channel without code answers {}.
    await within(ended, "the answer to the document")
    socket.disconnect()
    listener.disconnect()
  })

  async function chat(socket, topic, Presence) {
    const npm = new Socket(`${server.ws}/socket`, {transport: WebSocket})
    npm.connect()
    const other = npm.channel(topic, {name: "npm"})
    const heardByOther = inbox(other, "new_msg")
    await answer(other.join())

    const opened = happens(socket, "open")
    socket.connect()
    await opened
    const channel = socket.channel(topic, {name: "fork"})
    const heard = inbox(channel, "new_msg")
    let people = []
    if (Presence) {
      let state = {}
      const show = () => (people = Presence.list(state, name => name))
      channel.on("presence_state", next => show((state = Presence.syncState(state, next))))
      channel.on("presence_diff", diff => show((state = Presence.syncDiff(state, diff))))
    }
    assert.equal((await answer(channel.join())).status, "ok")
    if (Presence) await eventually(() => people.sort().join() === "fork,npm", "both to be present")
    assert.equal((await answer(channel.push("new_msg", {body: "from the fork"}))).status, "ok")
    assert.deepEqual(await heardByOther.next(), {body: "from the fork"})
    assert.deepEqual(await heard.next(), {body: "from the fork"})
    other.push("new_msg", {body: "from npm"})
    assert.deepEqual(await heard.next(), {body: "from npm"})
    assert.deepEqual(await answer(socket.channel("elsewhere").join()), {status: "error", response: {reason: "unmatched topic"}})
    await answer(channel.leave())
    socket.disconnect()
    // These clients go on with their heartbeats when they are disconnected, and Node would not end.
    clearInterval(socket.heartbeatTimer)
    npm.disconnect()
  }
})
