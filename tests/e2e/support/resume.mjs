// What the tests of topics with a history share: a server that has some, and what a channel that resumes is told.

import assert from "node:assert/strict"
import {resume} from "fanfare-resume"
import {answer, inbox} from "./clients.mjs"
import {eventually, within} from "./deadline.mjs"
import {startServe} from "./process.mjs"

const MESSAGES_PER_REQUEST = 1_000

/** Topics `room:*` keep more than a test publishes, `short:*` three messages, `plain:*` none. */
export const CONFIG = `
[[endpoint]]

[[endpoint]]
path = "/events"
protocol = "sse"
origins = "any"

[[channel]]
topic = "room:*"
join = "open"
history = { messages = 100000, bytes = "100MB" }

[[channel]]
topic = "short:*"
join = "open"
history = { messages = 3 }

[[channel]]
topic = "plain:*"
join = "open"
`

export function startWithHistory() {
  return startServe(CONFIG)
}

/** A channel that resumes and has joined: `box` has its numbers, `gaps` what `onGap` was told. */
export async function join(visit, topic, options = {}, socket = visit.connect()) {
  const channel = socket.channel(topic, () => ({}))
  const gaps = []
  const resuming = resume(channel, {onGap: gap => gaps.push(gap), ...options})
  const box = numbers(channel)
  const {status, response} = await answer(channel.join())
  assert.equal(status, "ok", JSON.stringify(response))
  return {channel, resuming, box, gaps, response}
}

/** Publishes the numbers `from` to `to` to a topic, and returns the position of the last. */
export async function publish(server, topic, from, to = from) {
  let position
  for (let n = from; n <= to; n++) position = await server.publish(topic, "n", {n})
  return position
}

/** The same many at a time, each with `more` in its payload. Returns the positions of all. */
export async function publishMany(server, topic, from, to, more = {}) {
  const positions = []
  for (let n = from; n <= to; n += MESSAGES_PER_REQUEST) {
    const count = Math.min(MESSAGES_PER_REQUEST, to - n + 1)
    const message = (_, at) => ({topic, event: "n", payload: {n: n + at, ...more}})
    positions.push(...(await server.publishAll(Array.from({length: count}, message))))
  }
  return positions
}

/** The numbers that a channel receives, in order. */
export function numbers(channel) {
  return inbox(channel, "n")
}

/** What is to come next: the numbers `from` to `to`, each once. */
export async function expectNumbers(assert, box, from, to = from) {
  const taken = await box.take(to - from + 1)
  assert.deepEqual(taken.map(({n}) => n), Array.from({length: to - from + 1}, (_, index) => from + index))
}

/** Cuts a channel's connection, and waits until the client has noticed. */
export async function cut(proxy, channel) {
  proxy.cut()
  await eventually(() => channel.state === "errored", "the client to notice that its connection is gone")
}

/** Closes a socket as its page would when it is left. Until it is closed, what is on its way still arrives. */
export function closed(socket) {
  return within(new Promise(resolve => socket.disconnect(resolve)), "the socket to be closed")
}
