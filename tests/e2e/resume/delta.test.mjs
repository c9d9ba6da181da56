// Differences: `delta` of the npm package `fanfare-resume` gives whole messages, and far fewer bytes come.

import assert from "node:assert/strict"
import {after, before, test} from "node:test"
import {delta, resume} from "fanfare-resume"
import {CLIENTS, Visit, answer, inbox} from "../support/clients.mjs"
import {eventually} from "../support/deadline.mjs"
import {startServe} from "../support/process.mjs"

const CONFIG = `
[[endpoint]]

[[channel]]
topic = "prices:*"
join = "open"
publish = "open"
delta = true
delta_key = "symbol"
history = { messages = 1000 }

[[channel]]
topic = "documents:*"
join = "open"
delta = true

[[channel]]
topic = "plain"
join = "open"
`

// As a server has it that writes every field each time: of a kilobyte, two fields change, and now and then a third one.
const price = (symbol, n) => ({
  symbol, day: Math.floor(n / 6), bid: 100 + n / 100, ask: 100.02 + n / 100, venue: {name: "XETRA", country: "DE", open: true},
  description: "x".repeat(700), tags: Array.from({length: 20}, (_, at) => `tag-${at}`),
})

let server
before(async () => { server = await startServe(CONFIG) })
after(() => server.remove())

/** Joins, and counts the bytes that come. */
async function enter(visit, topic, {helpers = [], mount} = {}) {
  const socket = visit.connect(mount)
  const channel = socket.channel(topic, {})
  for (const helper of helpers) helper(channel)
  const box = inbox(channel, "price")
  const bytes = {count: 0}
  const {onConnMessage} = socket
  socket.onConnMessage = message => {
    bytes.count += message.data.length
    onConnMessage.call(socket, message)
  }
  const {status, response} = await answer(channel.join())
  assert.equal(status, "ok", JSON.stringify(response))
  return {channel, box, bytes, response}
}

async function visiting(client, run) {
  const visit = new Visit(client, server)
  try {
    await run(visit)
  } finally {
    await visit.end()
  }
}

for (const client of CLIENTS) {
  const {version, transport} = client
  test(`phoenix ${version} over ${transport}: what comes is what was published`, () => visiting(client, async visit => {
    const topic = `prices:${version}${transport}`
    const reasons = []
    const asks = await enter(visit, topic, {helpers: [channel => delta(channel, {onWhole: reason => reasons.push(reason)})]})
    const others = await enter(visit, topic)
    const told = transport === "websocket" ? ["symbol"] : [undefined, "delta takes a WebSocket: messages over long-polling are whole"]
    assert.deepEqual([[asks.response.delta.key, ...reasons], others.response.delta], [told, undefined])
    const messages = Array.from({length: 60}, (_, n) => price("abc"[n % 3], n))
    messages.push({symbol: "a", gone: null}, {symbol: "a", list: [{a: null}]}, {bid: 1}, price("a", 61), price("a", 62))
    for (const message of messages) await server.publish(topic, "price", message)
    for (const message of messages) {
      const heard = await asks.box.next()
      assert.deepEqual(heard, message)
      // It is the callback's own.
      heard.bid = "changed"
      assert.deepEqual(await others.box.next(), message)
    }
    if (transport === "websocket") {
      const share = asks.bytes.count / others.bytes.count
      assert.ok(share < 0.25, `${share}`)
    }
  }))
}

for (const [order, helpers] of [["before", [delta, resume]], ["after", [resume, delta]]]) {
  test(`delta ${order} resume: nothing is missed or wrong when the connection is cut`, () => visiting(CLIENTS[0], async visit => {
    const topic = `prices:cut-${order}`
    const proxy = await visit.through({})
    const {channel, box, bytes} = await enter(visit, topic, {helpers})
    let n = 0
    const publish = async count => {
      const messages = Array.from({length: count}, () => price("a", n++))
      for (const message of messages) await server.publish(topic, "price", message)
      return messages
    }
    const expect = async messages => {
      for (const message of messages) assert.deepEqual(await box.next(), message)
    }
    for (let round = 0; round < 3; round++) {
      await expect(await publish(5))
      proxy.cut()
      await eventually(() => channel.state !== "joined", "the loss of the connection")
      const missed = await publish(3)
      proxy.mend()
      await expect(missed)
      const before = bytes.count
      await expect(await publish(10))
      const share = (bytes.count - before) / (10 * JSON.stringify(price("a", n)).length)
      assert.ok(share < 0.4, `${share}`)
    }
  }))
}

test("documents without a key", () => visiting(CLIENTS[0], async visit => {
  const {box} = await enter(visit, "documents:1", {helpers: [delta]})
  const document = (title, text) => ({title, text: text.repeat(300), meta: {by: "ada", at: title.length}})
  const messages = [document("a", "x"), document("bb", "x"), document("bb", "y"), document("c", "y")]
  for (const message of messages) await server.publish("documents:1", "price", message)
  for (const message of messages) assert.deepEqual(await box.next(), message)
}))

test("where a topic has no differences, the page is told once", () => visiting(CLIENTS[0], async visit => {
  const warnings = []
  const warn = console.warn
  console.warn = text => warnings.push(text)
  try {
    const {channel, box} = await enter(visit, "plain", {helpers: [delta]})
    await server.publish("plain", "price", {bid: 1})
    assert.deepEqual(await box.next(), {bid: 1})
    await answer(channel.leave())
    assert.deepEqual(warnings, ["delta of plain: this topic has no delta on the server"])
  } finally {
    console.warn = warn
  }
}))

test("it must be called before the join", () => {
  assert.throws(() => delta({joinedOnce: true, topic: "t"}), /call delta\(\) before join\(\): t has already joined/)
})
