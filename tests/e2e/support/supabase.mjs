// A server for Supabase's clients, tokens for it, and the clients themselves.

import {createHmac} from "node:crypto"
import WebSocket from "ws"
import * as newest from "@supabase/realtime-js"
import * as older from "realtime-js-2-15"
import {createClient} from "@supabase/supabase-js"
import {Inbox, within} from "./deadline.mjs"
import {startServe} from "./process.mjs"

const SECRET = "super-secret-jwt-token-with-at-least-32-characters-long"
export const PUBLISHABLE = "sb_publishable_for_the_tests"

const CONFIG = `
[auth.supabase]
kind = "jwt"
algorithms = ["HS256"]
secret = "${SECRET}"

[[endpoint]]
path = "/realtime/v1"
protocol = "supabase"
auth = "supabase"
api_keys = { SB_PUBLISHABLE = "anon" }

[[channel]]
topic = "realtime:team:*"
private = true
join = "claim:role=authenticated"
history = { messages = 100, ttl = "1h" }

[drain]
limit = "1s"
`

export function startSupabase() {
  return startServe(CONFIG, {SB_PUBLISHABLE: PUBLISHABLE})
}

/** The same where changes of tables are served. Their source need not be connected: whatever is published on a table's topic counts. */
export function startWithChanges() {
  const source = `
[source.database]
kind = "outbox"
url = "postgres://nobody@127.0.0.1:9/none?sslmode=disable"
changes = { "public.orders" = ["claim:sub=row:owner", "row:shared=true"] }
`
  const config = CONFIG.replace('auth = "supabase"', 'auth = "supabase"\npostgres_changes = "database"')
  return startServe(config + source, {SB_PUBLISHABLE: PUBLISHABLE})
}

/** A token of a role, good for so many seconds. */
export function token(role, sub, seconds = 3600) {
  const part = value => Buffer.from(JSON.stringify(value)).toString("base64url")
  const claims = {role, sub, exp: Math.floor(Date.now() / 1000) + seconds}
  const message = `${part({alg: "HS256", typ: "JWT"})}.${part(claims)}`
  return `${message}.${createHmac("sha256", SECRET).update(message).digest("base64url")}`
}

export const anon = () => token("anon", "")
export const user = (sub, seconds) => token("authenticated", sub, seconds)

const library = module => (server, options) => {
  const {key = anon(), ...rest} = options
  const url = `${server.ws}/realtime/v1`
  return new module.RealtimeClient(url, {params: {apikey: key}, transport: WebSocket, ...rest})
}

/** The stock clients: each makes one that has not connected yet. */
export const CLIENTS = {
  "realtime-js 2.119": library(newest),
  "realtime-js 2.15": library(older),
  "supabase-js 2.119": (server, {key = anon(), accessToken, ...rest}) => {
    const options = {realtime: {transport: WebSocket, ...rest}, accessToken}
    return createClient(server.http, key, options).realtime
  },
}

/** One test's clients, gone when the test is. */
export class Visit {
  #clients = []

  constructor(server) {
    this.server = server
  }

  client(name, options = {}) {
    const client = CLIENTS[name](this.server, options)
    this.#clients.push(client)
    return client
  }

  async end() {
    await Promise.all(this.#clients.map(client => client.disconnect()))
  }
}

/** Subscribes, and collects what the channel says of itself: `[status, message]`. */
export function subscribe(channel) {
  const told = new Inbox(`the status of ${channel.topic}`)
  channel.subscribe((status, error) => told.put([status, error?.message]))
  return told
}

/** Waits until a channel is subscribed, whatever it says before. */
export async function subscribed(told) {
  for (;;) {
    const [status] = await told.next()
    if (status === "SUBSCRIBED") return
  }
}

/** Subscribes at the first attempt. */
export async function enter(channel) {
  const told = subscribe(channel)
  const [status, message] = await told.next()
  if (status !== "SUBSCRIBED") throw new Error(`${channel.topic}: ${status} ${message}`)
  return told
}

/** What comes on an event of a channel. */
export function broadcasts(channel, event) {
  const inbox = new Inbox(`${event} on ${channel.topic}`)
  channel.on("broadcast", {event}, message => inbox.put(message))
  return inbox
}

/** A member that sends whatever bytes it likes. */
export async function rawMember(server, vsn) {
  const socket = new WebSocket(`${server.ws}/realtime/v1/websocket?apikey=${anon()}&vsn=${vsn}`)
  socket.on("error", () => {})
  await within(new Promise(resolve => socket.once("open", resolve)), "the connection of a raw member")
  return socket
}
