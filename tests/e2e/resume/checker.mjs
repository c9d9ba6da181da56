// A topic with a history, publishers, and stock clients that resume, while everything goes wrong that a network and a
// server can do: connections are cut and stall, clients move between the transports, the server is killed and starts
// again. What the clients have seen is judged by verdict.mjs.

import {resume} from "fanfare-resume"
import {CLIENTS, Visit} from "../support/clients.mjs"
import {eventually, sleep, within} from "../support/deadline.mjs"
import {startServe} from "../support/process.mjs"
import {startProxy} from "../support/proxy.mjs"
import {historyOf, verdict, verdictOnOrder} from "./verdict.mjs"

const TOPIC = "room:checker"
const PUBLISHERS = 3
const PUBLISH_PAUSE_MS_MAX = 30
/** Each of the stock clients so many times. */
const CLIENTS_EACH = 2
const RESTART_EVERY_MS = 2_500
/** Clients wait at most 3 s for their connection to be closed. */
const MOVE_MS_MAX = 4_000
/** Behind the last trouble every client must have got the rest by then. */
const SETTLE_MS = 20_000
/** Impatient clients have been gone and back more often. */
const IMPATIENT = {
  timeout: 800,
  heartbeatIntervalMs: 600,
  longpollerTimeout: 1_500,
  reconnectAfterMs: tries => Math.min(20 * tries, 200),
  rejoinAfterMs: tries => Math.min(20 * tries, 200),
}

/** The server's configuration; with `disk`, what is kept outlives the server. */
export function config({disk}) {
  return `
[[endpoint]]
longpoll_window = "1s"
[[channel]]
topic = "room:*"
join = "open"
history = { messages = 100000, bytes = "100MB" }
[limits]
outbox_frames_max = 100000
${disk ? '[history]\ndir = "history"' : ""}
`
}

/**
 * What goes wrong within `seconds`, in order: `{at, lasts, what}`, in ms, and `client` unless it is a restart.
 * The same seed makes the same plan.
 */
export function planOf(seed, seconds, clients) {
  const random = randomOf(seed)
  const between = (least, most) => least + Math.floor(random() * (most - least))
  const freeAt = new Array(clients).fill(0)
  const plan = []
  let restartAt = RESTART_EVERY_MS / 2
  for (let at = 100; at < seconds * 1_000; at += between(20, 250)) {
    if (at >= restartAt) {
      plan.push({at, what: "restart", lasts: between(0, 500)})
      restartAt = at + between(RESTART_EVERY_MS / 2, RESTART_EVERY_MS * 1.5)
      continue
    }
    const client = between(0, clients)
    const what = ["cut", "stall", "stall and cut", "move"][between(0, 4)]
    const lasts = between(0, what === "move" ? 50 : 1_500)
    if (freeAt[client] > at) continue
    freeAt[client] = at + lasts
    plan.push({at, client, what, lasts})
  }
  return plan
}

/** Carries a plan out, and returns what was wrong, and figures. */
export async function check({seed, seconds, disk = false}) {
  const server = await startServe(config({disk}))
  const kinds = Array.from({length: CLIENTS_EACH}, () => CLIENTS).flat()
  const clients = await Promise.all(kinds.map(kind => Client.start(kind, server)))
  const publishers = Array.from({length: PUBLISHERS}, (_, by) => new Publisher(by, server, randomOf(seed + by + 1)))
  const answers = []
  try {
    const published = publishers.map(publisher => publisher.run(answers))
    const restarts = await carryOut(planOf(seed, seconds, clients.length), clients, server, answers)
    for (const publisher of publishers) publisher.stopped = true
    await within(Promise.all(published), "the publishers to end")
    const last = answers.reduce((a, b) => (after(b.position, a.position) ? b : a))
    const settled = client => client.position === last.position
    await eventually(() => clients.every(settled), "all clients to have got the rest", SETTLE_MS).catch(() => {})

    const unanswered = new Set(publishers.flatMap(publisher => publisher.unanswered))
    const history = historyOf(answers, unanswered, clients.map(({seen}) => seen))
    const faultsOf = client => verdict(history, client.seen, disk ? 0 : restarts)
    const faults = clients.flatMap(client => faultsOf(client).map(fault => `${client.name}: ${fault}`))
    const seen = clients.flatMap(client => client.seen)
    return {
      faults: [...verdictOnOrder(history), ...faults],
      published: answers.length,
      received: seen.filter(({id}) => id).length,
      gaps: seen.filter(({gap}) => gap).length,
      joins: clients.reduce((sum, client) => sum + client.joins, 0),
      restarts,
    }
  } finally {
    for (const publisher of publishers) publisher.stopped = true
    for (const client of clients) await client.end()
    await server.remove()
  }
}

async function carryOut(plan, clients, server, answers) {
  const begin = Date.now()
  // What happens to one client happens one after the other: moving takes as long as the client takes to close.
  const running = clients.map(() => Promise.resolve())
  let restarts = 0
  for (const {at, client, what, lasts} of plan) {
    await sleep(Math.max(0, begin + at - Date.now()))
    if (what === "restart") {
      restarts += 1
      await server.stop("SIGKILL")
      await sleep(lasts)
      await server.start()
      // Each life of the server has messages by which its place among the others is known.
      const count = answers.length
      await eventually(() => answers.length > count, "a publish to be answered after a restart")
    } else {
      running[client] = running[client].then(() => clients[client].suffer(what, lasts))
    }
  }
  await Promise.all(running)
  return restarts
}

/** Publishes one number after the other, each until it is answered. */
class Publisher {
  stopped = false
  /** The ids of attempts that were not answered. */
  unanswered = []

  constructor(by, server, random) {
    this.by = by
    this.server = server
    this.random = random
  }

  async run(answers) {
    for (let n = 0; !this.stopped; n++) {
      const id = `${this.by}-${n}`
      answers.push({id, position: await this.#publish(id)})
      await sleep(this.random() * PUBLISH_PAUSE_MS_MAX)
    }
  }

  async #publish(id) {
    for (;;) {
      try {
        return await this.server.publish(TOPIC, "n", {id}, {idempotency_key: id})
      } catch {
        this.unanswered.push(id)
        await sleep(10)
      }
    }
  }
}

/** A stock client behind a proxy of its own, and what it has seen. */
class Client {
  seen = []
  joins = 0

  static async start(kind, server) {
    const client = new Client()
    client.name = `${kind.version} ${kind.transport}`
    client.visit = new Visit(kind, server)
    client.proxy = await client.visit.through({})
    client.socket = client.visit.connect(IMPATIENT)
    const channel = client.socket.channel(TOPIC)
    client.resuming = resume(channel, {onGap: ({to}) => client.seen.push({gap: to})})
    channel.on("n", ({id}, position) => client.seen.push({position, id}))
    const joined = new Promise(resolve => channel.join().receive("ok", resolve))
    channel.joinPush.receive("ok", () => (client.joins += 1))
    await within(joined, `${client.name} to join`)
    client.seen.unshift({joined: client.resuming.position})
    return client
  }

  get position() {
    return this.resuming.position
  }

  async suffer(what, ms) {
    if (what === "move") return this.#move()
    if (what === "cut") this.proxy.cut()
    else this.proxy.stall()
    await sleep(ms)
    if (what === "stall and cut") this.proxy.cut()
    this.proxy.mend()
  }

  #move() {
    const {socket, visit} = this
    const next = socket.transport === visit.LongPoll ? visit.WebSocket : visit.LongPoll
    const moved = new Promise(resolve => socket.disconnect(() => {
      socket.replaceTransport(next)
      socket.connect()
      resolve()
    }))
    // Version 1.7 calls nobody back when its heartbeat gives the connection up meanwhile: it connects again where it was.
    return Promise.race([moved, sleep(MOVE_MS_MAX)])
  }

  end() {
    this.proxy.mend()
    return this.visit.end()
  }
}

/** Whether a position is behind another that was answered before it, maybe by a server that is gone. */
function after(one, other) {
  const [[epoch, offset], [otherEpoch, otherOffset]] = [one.split(":"), other.split(":")]
  return epoch !== otherEpoch || Number(offset) > Number(otherOffset)
}

/** Numbers from 0 to 1 that depend on nothing but the seed (mulberry32). */
function randomOf(seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
