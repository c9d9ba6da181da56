// The stock clients, version by transport, and what a test does with them.

import WebSocket from "ws"
import * as phoenix18 from "phoenix"
import {Inbox, within} from "./deadline.mjs"
import {startProxy} from "./proxy.mjs"
import {XMLHttpRequest} from "./xhr.mjs"

// Version 1.7 looks for `self` when it is loaded, and finds XMLHttpRequest there. 1.8 does without either.
globalThis.self = {XMLHttpRequest}
const phoenix17 = await import("phoenix-1-7")
delete globalThis.self

const LIBRARIES = {"1.8.16": phoenix18, "1.7.23": phoenix17}

/** Every version over every transport. */
export const CLIENTS = Object.keys(LIBRARIES).flatMap(version => [
  {version, transport: "websocket"},
  {version, transport: "longpoll"},
])

/** One test's clients, all of one version and transport, at one address; gone when the test is. */
export class Visit {
  #library
  #address
  #sockets = []
  #proxies = []
  #topics = 0

  constructor(client, server) {
    this.version = client.version
    this.transport = client.transport
    this.server = server
    this.Presence = LIBRARIES[client.version].Presence
    this.LongPoll = LIBRARIES[client.version].LongPoll
    this.WebSocket = WebSocket
    this.#library = LIBRARIES[client.version]
    this.#address = server
  }

  get overWebSocket() {
    return this.transport === "websocket"
  }

  /** Puts a proxy before the server, for the sockets made from now on. */
  async through(options) {
    const proxy = await startProxy(this.server.port, options)
    this.#proxies.push(proxy)
    this.#address = proxy
    return proxy
  }

  /** Leaves the proxy out, for the sockets made from now on. */
  straight() {
    this.#address = this.server
  }

  /** A socket that is connecting. `options` are the client's own; `mount` is where. */
  connect({mount = "/socket", ...options} = {}) {
    const socket = new this.#library.Socket(this.#address.ws + mount, {
      transport: this.overWebSocket ? WebSocket : this.LongPoll,
      ...options,
    })
    this.#sockets.push(socket)
    socket.connect()
    return socket
  }

  /** A channel that has joined, on a socket of its own unless one is given. */
  async join(topic, {params = {}, socket = this.connect()} = {}) {
    const channel = socket.channel(topic, params)
    const {status, response} = await answer(channel.join())
    if (status !== "ok") throw new Error(`joining ${topic}: ${status} ${JSON.stringify(response)}`)
    return channel
  }

  /** A topic that no other test uses. */
  topic(prefix = "room") {
    this.#topics += 1
    return `${prefix}:${Math.random().toString(36).slice(2)}-${this.#topics}`
  }

  async end() {
    for (const socket of this.#sockets) socket.disconnect()
    for (const proxy of this.#proxies) await proxy.close()
  }
}

/** What came back for a push or a join: `{status, response}`; status is `timeout` when the client gave up. */
export function answer(push, statuses = ["ok", "error", "timeout"]) {
  const answered = new Promise(resolve => {
    for (const status of statuses) push.receive(status, response => resolve({status, response}))
  })
  return within(answered, "an answer")
}

/** Everything that `channel` receives as one of `events`: the payload, or `[event, payload]` when there are several. */
export function inbox(channel, ...events) {
  const box = new Inbox(`${events.join(", ")} on ${channel.topic}`)
  for (const event of events) {
    channel.on(event, payload => box.put(events.length === 1 ? payload : [event, payload]))
  }
  return box
}

/** A round trip: what the server had sent to this channel before is there afterwards. */
export async function settle(channel) {
  await answer(channel.push("echo", {}))
}

/** The next time that the socket opens, closes (with the close event) or fails. */
export function happens(socket, what) {
  const register = {open: "onOpen", close: "onClose", error: "onError"}[what]
  return within(new Promise(resolve => socket[register](resolve)), `the socket's ${what}`)
}

/** The next time that the channel has joined, after it was joined before. */
export function rejoins(channel) {
  return within(new Promise(resolve => channel.joinPush.receive("ok", onceLater(channel, resolve))), `${channel.topic} to be joined again`)
}

// `receive` calls back at once for an answer that is there already; that is the old join.
function onceLater(channel, resolve) {
  const old = channel.joinRef()
  return response => {
    if (channel.joinRef() !== old) resolve(response)
  }
}
