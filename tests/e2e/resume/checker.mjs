// A topic with a history, publishers, and clients that resume, while everything goes wrong that a network and a server
// can do: connections are cut and stall, clients move between the transports, the server is killed and starts again.
// What the clients have seen is judged by verdict.mjs.

import {eventually, sleep, within} from "../support/deadline.mjs"
import {startServe} from "../support/process.mjs"
import {startProxy} from "../support/proxy.mjs"
import {KINDS} from "./kinds.mjs"
import {historyOf, verdict, verdictOnOrder} from "./verdict.mjs"

const TOPIC = "room:checker"
const PUBLISHERS = 3
const PUBLISH_PAUSE_MS_MAX = 30
/** So many messages are published at once, now and then. */
const BURST = 250
/** Clients of each kind. */
const CLIENTS_EACH = 2
const RESTART_EVERY_MS = 2_500
const BURST_EVERY_MS = 800
/** Behind the last trouble every client must get the rest, and something of it within this time. */
const SETTLE_MS = 20_000
/** With a policy, messages are so large, and so few may wait, that a client that stalls during a burst loses some. */
const FILLER = "x".repeat(20_000)
const OUTBOX_FRAMES_MAX = 20

/**
 * The server's configuration. With `disk`, what is kept outlives the server; `slow` is the policy for readers that do
 * not keep up, which makes gaps.
 */
export function config({disk, slow}) {
  return `
[[endpoint]]
longpoll_window = "1s"
[[endpoint]]
path = "/events"
protocol = "sse"
[[channel]]
topic = "room:*"
join = "open"
history = { messages = 100000, bytes = "200MB" }
${slow ? `slow = "${slow}"` : ""}
[limits]
outbox_frames_max = ${slow ? OUTBOX_FRAMES_MAX : 100_000}
${disk ? '[history]\ndir = "history"' : ""}
`
}

/**
 * What goes wrong within `seconds`, in order: `{at, lasts, what}`, in ms, and `client` unless it is a restart
 * or a burst.
 * The same seed makes the same plan.
 */
export function planOf(seed, seconds, clients) {
  const random = randomOf(seed)
  const between = (least, most) => least + Math.floor(random() * (most - least))
  const freeAt = new Array(clients).fill(0)
  const plan = []
  let restartAt = RESTART_EVERY_MS / 2
  let burstAt = BURST_EVERY_MS
  for (let at = 100; at < seconds * 1_000; at += between(20, 250)) {
    if (at >= restartAt) {
      plan.push({at, what: "restart", lasts: between(0, 500)})
      restartAt = at + between(RESTART_EVERY_MS / 2, RESTART_EVERY_MS * 1.5)
      continue
    }
    if (at >= burstAt) {
      plan.push({at, what: "burst", lasts: 0})
      burstAt = at + between(0, BURST_EVERY_MS * 2)
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
export async function check({seed, seconds, disk = false, slow}) {
  const server = await startServe(config({disk, slow}))
  const kinds = Array.from({length: CLIENTS_EACH}, () => KINDS).flat()
  const clients = await Promise.all(kinds.map(kind => Client.start(kind, server)))
  const filler = slow ? {filler: FILLER} : {}
  const publisher = (_, by) => new Publisher(by, server, randomOf(seed + by + 1), filler)
  const publishers = Array.from({length: PUBLISHERS}, publisher)
  const answers = []
  try {
    const published = publishers.map(publisher => publisher.run(answers))
    const restarts = await carryOut(planOf(seed, seconds, clients.length), clients, publishers, server, answers)
    for (const publisher of publishers) publisher.stopped = true
    await within(Promise.all(published), "the publishers to end")
    const last = answers.reduce((a, b) => (after(b.position, a.position) ? b : a))
    const settled = client => client.upTo === last.position
    for (let before = -1; before < seenBy(clients).length && !clients.every(settled); ) {
      before = seenBy(clients).length
      await eventually(() => clients.every(settled), "all clients to have got the rest", SETTLE_MS).catch(() => {})
    }

    const unanswered = new Set(publishers.flatMap(publisher => publisher.unanswered))
    const history = historyOf(answers, unanswered, clients.map(({seen}) => seen))
    const cause = {restarts: disk ? 0 : restarts, slow}
    const faultsOf = client => verdict(history, client.seen, cause)
    const faults = clients.flatMap(client => faultsOf(client).map(fault => `${client.name}: ${fault}`))
    const seen = seenBy(clients)
    const gaps = seen.flatMap(({gap}) => gap ?? [])
    const forgotten = gaps.filter(({reason}) => reason === "not_recovered")
    return {
      faults: [...verdictOnOrder(history), ...faults],
      published: answers.length,
      received: seen.filter(({id}) => id).length,
      gaps: gaps.length - forgotten.length,
      forgotten: forgotten.length,
      joins: clients.reduce((sum, client) => sum + client.joins, 0),
      restarts,
    }
  } finally {
    for (const publisher of publishers) publisher.stopped = true
    for (const client of clients) await client.end()
    await server.remove()
  }
}

function seenBy(clients) {
  return clients.flatMap(({seen}) => seen)
}

async function carryOut(plan, clients, publishers, server, answers) {
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
    } else if (what === "burst") {
      publishers[0].bursts = true
    } else {
      running[client] = running[client].then(() => clients[client].suffer(what, lasts))
    }
  }
  await Promise.all(running)
  return restarts
}

/** Publishes one number after the other, each until it is answered; if it `bursts`, many at once for a time. */
class Publisher {
  stopped = false
  bursts = false
  /** The ids of attempts that were not answered. */
  unanswered = []

  constructor(by, server, random, filler) {
    this.by = by
    this.server = server
    this.random = random
    this.filler = filler
  }

  async run(answers) {
    for (let n = 0; !this.stopped; ) {
      const ids = Array.from({length: this.bursts ? BURST : 1}, () => `${this.by}-${n++}`)
      this.bursts = false
      const positions = await this.#publish(ids)
      answers.push(...ids.map((id, at) => ({id, position: positions[at]})))
      await sleep(this.random() * PUBLISH_PAUSE_MS_MAX)
    }
  }

  async #publish(ids) {
    const message = id => ({topic: TOPIC, event: "n", payload: {id, ...this.filler}, idempotency_key: id})
    const messages = ids.map(message)
    for (;;) {
      try {
        return await this.server.publishAll(messages)
      } catch {
        this.unanswered.push(...ids)
        await sleep(10)
      }
    }
  }
}

/** A client behind a proxy of its own, and what it has seen. */
class Client {
  seen = []
  joins = 0

  static async start(kind, server) {
    const client = new Client()
    client.name = kind.name
    client.proxy = await startProxy(server.port)
    client.following = kind.follow(client.proxy, TOPIC, client)
    await eventually(() => client.joins > 0, `${client.name} to join`)
    return client
  }

  /** Up to where it knows what it has got and what not. */
  get upTo() {
    const {joined, gap, position} = this.seen.at(-1)
    return joined ?? gap?.to ?? position
  }

  joined(position, recovered) {
    if (this.joins === 0) this.seen.push({joined: position})
    else if (!recovered) this.seen.push({gap: {reason: "not_recovered", from: this.upTo, to: position}})
    this.joins += 1
  }

  async suffer(what, ms) {
    if (what === "move") return this.following.move()
    if (what === "cut") this.proxy.cut()
    else this.proxy.stall()
    await sleep(ms)
    if (what === "stall and cut") this.proxy.cut()
    this.proxy.mend()
  }

  async end() {
    this.proxy.mend()
    await this.following.end()
    await this.proxy.close()
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
