// What the tests of topics with a history share: a server that has some, and what a channel that resumes is told.

import {inbox} from "./clients.mjs"
import {eventually, within} from "./deadline.mjs"
import {startServe} from "./process.mjs"

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

/** Publishes the numbers `from` to `to` to a topic, and returns the position of the last. */
export async function publish(server, topic, from, to = from) {
  let position
  for (let n = from; n <= to; n++) position = await server.publish(topic, "n", {n})
  return position
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
