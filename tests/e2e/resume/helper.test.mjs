// The npm package `fanfare-resume`: stock channels that go on where they were, and are told when they cannot.

import assert from "node:assert/strict"
import {resume} from "fanfare-resume"
import {answer} from "../support/clients.mjs"
import {checks, checksWithOwnServer} from "../support/check.mjs"
import {DEADLINE_MS, eventually} from "../support/deadline.mjs"
import {closed, cut, expectNumbers, join, numbers, publish, startWithHistory} from "../support/resume.mjs"

const OVER_LONGPOLL = ({transport}) => transport === "longpoll"
// Both transports are chosen by the case itself.
const ONCE = {on: ({transport}) => transport === "websocket"}

checks("resuming channels", check => {
  check("what is published while the connection is cut comes on return", {}, async visit => {
    const topic = visit.topic()
    const proxy = await visit.through({})
    const {channel, resuming, box, gaps} = await join(visit, topic)
    await publish(visit.server, topic, 1, 3)
    await expectNumbers(assert, box, 1, 3)
    for (const from of [4, 14]) {
      await cut(proxy, channel)
      await publish(visit.server, topic, from, from + 4)
      proxy.mend()
      await expectNumbers(assert, box, from, from + 4)
      const last = await publish(visit.server, topic, from + 5, from + 9)
      await expectNumbers(assert, box, from + 5, from + 9)
      assert.equal(resuming.position, last)
    }
    assert.deepEqual([box.rest(), gaps], [[], []])
  })

  check("a stream is cut in the middle, again and again", {}, async visit => {
    const topic = visit.topic()
    const proxy = await visit.through({})
    const {box, gaps} = await join(visit, topic)
    const published = publish(visit.server, topic, 1, 300)
    for (const part of [1, 2, 3]) {
      await expectNumbers(assert, box, 1 + (part - 1) * 50, part * 50)
      proxy.cut()
      setTimeout(() => proxy.mend(), 50)
    }
    await expectNumbers(assert, box, 151, 300)
    await published
    assert.deepEqual([box.rest(), gaps], [[], []])
  })

  check("more is missed than is kept", {}, async visit => {
    const topic = visit.topic("short")
    const proxy = await visit.through({})
    const {channel, resuming, box, gaps} = await join(visit, topic)
    const from = await publish(visit.server, topic, 1)
    await expectNumbers(assert, box, 1)
    await cut(proxy, channel)
    const to = await publish(visit.server, topic, 2, 6)
    proxy.mend()
    await eventually(() => gaps.length > 0, "the gap to be told")
    assert.deepEqual([gaps, resuming.position], [[{reason: "not_recovered", from, to}], to])
    await publish(visit.server, topic, 7)
    await expectNumbers(assert, box, 7)
  })

  check("a topic without a history", {}, async visit => {
    const topic = visit.topic("plain")
    const proxy = await visit.through({})
    const {channel, resuming, box, gaps} = await join(visit, topic)
    await publish(visit.server, topic, 1)
    await expectNumbers(assert, box, 1)
    assert.deepEqual([resuming.position, gaps], [null, []])
    await cut(proxy, channel)
    proxy.mend()
    await eventually(() => gaps.length > 0, "the gap to be told")
    assert.deepEqual(gaps, [{reason: "no_history", from: null, to: null}])
    await publish(visit.server, topic, 2)
    await expectNumbers(assert, box, 2)
  })

  check("a page that is loaded again goes on from the position that was stored", {}, async visit => {
    const topic = visit.topic()
    let stored = null
    const before = await join(visit, topic, {from: stored, onPosition: position => (stored = position)})
    assert.match(stored, /:0$/)
    await publish(visit.server, topic, 1, 2)
    await expectNumbers(assert, before.box, 1, 2)
    await closed(before.channel.socket)
    await publish(visit.server, topic, 3, 5)
    const after = await join(visit, topic, {from: stored, onPosition: position => (stored = position)})
    await expectNumbers(assert, after.box, 3, 5)
    assert.equal(stored, after.resuming.position)
    // Between two pages so much may happen that it is not kept, as well.
    const other = await join(visit, topic, {from: "1:1"})
    assert.deepEqual(other.gaps, [{reason: "not_recovered", from: "1:1", to: stored}])
  })

  check("what was stored is no position: the channel joins without it, and is told", {}, async visit => {
    const topic = visit.topic()
    const socket = visit.connect({rejoinAfterMs: () => 20})
    for (const from of ["yesterday", "", 7]) {
      const channel = socket.channel(topic)
      const [gaps, positions] = [[], []]
      resume(channel, {from, onGap: gap => gaps.push(gap), onPosition: position => positions.push(position)})
      channel.join()
      await eventually(() => channel.state === "joined", "the join")
      assert.deepEqual(gaps, [{reason: "not_a_position", from, to: positions[0]}])
      await answer(channel.leave())
    }
  })

  check("a WebSocket that does not get through any more is followed by long-polling", ONCE, async visit => {
    const topic = visit.topic()
    const proxy = await visit.through({})
    const Proxied = class WebSocket extends visit.WebSocket {
      constructor(url, protocols) {
        super(url.replace(`:${visit.server.port}/`, `:${proxy.port}/`), protocols)
      }
    }
    visit.straight()
    const socket = visit.connect({transport: Proxied, longPollFallbackMs: 20_000, sessionStorage: null})
    const {channel, box, gaps} = await join(visit, topic, {}, socket)
    await publish(visit.server, topic, 1, 3)
    await expectNumbers(assert, box, 1, 3)
    assert.equal(socket.transport, Proxied)
    await cut(proxy, channel)
    await publish(visit.server, topic, 4, 6)
    await expectNumbers(assert, box, 4, 6)
    assert.equal(socket.transport, visit.LongPoll)
    assert.deepEqual([box.rest(), gaps], [[], []])
  })

  check("a join that was given up, and answered all the same, brings nothing twice", {}, async visit => {
    const topic = visit.topic()
    const first = await join(visit, topic)
    const from = first.resuming.position
    await publish(visit.server, topic, 1, 3)

    const proxy = await visit.through({})
    const socket = visit.connect({rejoinAfterMs: () => 50})
    await eventually(() => socket.isConnected(), "the connection")
    const channel = socket.channel(topic)
    resume(channel, {from})
    const box = numbers(channel)
    proxy.stall()
    channel.join(200)
    // The second one has time.
    channel.timeout = DEADLINE_MS
    const given = channel.joinRef()
    await eventually(() => channel.state === "joining" && channel.joinRef() !== given, "a second join")
    proxy.mend()
    await eventually(() => channel.state === "joined", "the join")
    await publish(visit.server, topic, 4)
    await expectNumbers(assert, box, 1, 4)
    assert.deepEqual(box.rest(), [])
  })

  check("a long-poll session that the server has forgotten", {on: OVER_LONGPOLL}, async visit => {
    const topic = visit.topic()
    const {channel, box, gaps} = await join(visit, topic)
    // The token that comes with the first number is one of another session.
    const tokens = ["a token that the server does not know"]
    let token = channel.socket.conn.token
    Object.defineProperty(channel.socket.conn, "token", {get: () => token, set: next => (token = tokens.pop() ?? next)})
    await publish(visit.server, topic, 1, 3)
    await expectNumbers(assert, box, 1, 3)
    assert.deepEqual([box.rest(), gaps], [[], []])
  })

  check("hooks and params that were there stay", ONCE, async visit => {
    const channel = visit.connect().channel(visit.topic(), () => ({name: "Ada"}))
    const heard = []
    channel.onMessage = (event, payload, ref, joinRef) => {
      heard.push([event, typeof ref, typeof joinRef])
      return event === "n" ? {n: payload.n * 10} : payload
    }
    resume(channel)
    assert.deepEqual(channel.joinPush.payload(), {name: "Ada", resume: true})
    const box = numbers(channel)
    await answer(channel.join())
    await publish(visit.server, channel.topic, 1)
    assert.deepEqual(await box.next(), {n: 10})
    assert.deepEqual(heard.at(-1), ["n", "string", "object"])
    assert.throws(() => resume(channel), /before join/)
  })
}, startWithHistory)

checksWithOwnServer("resuming channels", check => {
  check("a server that starts anew has forgotten: the gap is told", {}, async visit => {
    const topic = visit.topic()
    const {channel, resuming, box, gaps} = await join(visit, topic)
    const from = await publish(visit.server, topic, 1, 3)
    await expectNumbers(assert, box, 1, 3)
    await visit.server.stop("SIGKILL")
    await eventually(() => channel.state === "errored", "the client to notice")
    await visit.server.start()
    await eventually(() => gaps.length > 0, "the gap to be told")
    assert.deepEqual(gaps, [{reason: "not_recovered", from, to: resuming.position}])
    assert.notEqual(resuming.position, from)
    await publish(visit.server, topic, 4, 6)
    await expectNumbers(assert, box, 4, 6)
  })
}, startWithHistory)
