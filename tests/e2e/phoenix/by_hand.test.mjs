// No client at all: frames typed into a command-line WebSocket client, and requests as curl makes them.

import assert from "node:assert/strict"
import {once} from "node:events"
import {after, before, describe, test} from "node:test"
import WebSocket from "ws"
import {Inbox, within} from "../support/deadline.mjs"
import {startOracle} from "../support/process.mjs"

describe("by hand", {concurrency: 8}, () => {
  let server
  before(async () => {
    server = await startOracle()
  })
  after(() => server.remove())

  for (const [room, path] of [["room:hand", "/socket/websocket"], ["room:bare", "/socket"]]) {
    test(`phoenix_1, phoenix_2, phoenix_16: frames of version 1 are typed at ${path}`, () => typing(path, async ws => {
      assert.deepEqual(
        await ws.ask(`{"topic":"${room}","event":"phx_join","payload":{},"ref":"1"}`),
        {topic: room, event: "phx_reply", payload: {status: "ok", response: {topic: room, params: {}, user: "anon"}}, ref: "1"},
      )
      assert.deepEqual(
        await ws.ask(`{"topic":"${room}","event":"new_msg","payload":{"body":"hi"},"ref":"2"}`),
        {topic: room, event: "new_msg", payload: {body: "hi"}, ref: null},
      )
      assert.deepEqual(
        await ws.ask('{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"3"}'),
        {topic: "phoenix", event: "phx_reply", payload: {status: "ok", response: {}}, ref: "3"},
      )
    }))

    test(`phoenix_1, phoenix_2, phoenix_16: frames of version 2 are typed at ${path}`, () => typing(`${path}?vsn=2.0.0`, async ws => {
      const topic = `${room}-2`
      assert.deepEqual(
        await ws.ask(`["1","1","${topic}","phx_join",{}]`),
        ["1", "1", topic, "phx_reply", {status: "ok", response: {topic, params: {}, user: "anon"}}],
      )
      assert.deepEqual(await ws.ask(`[null,2,"${topic}","echo",[3]]`), ["1", 2, topic, "phx_reply", {status: "ok", response: [3]}])
      assert.deepEqual(
        await ws.ask('[null,"3","room:other","echo",{}]'),
        [null, "3", "room:other", "phx_reply", {status: "error", response: {reason: "unmatched topic"}}],
      )
    }))
  }

  for (const [what, frame] of [["no JSON", "hello?"], ["an object", '{"topic":"room:a"}'], ["too short a list", '["1","1","room:a"]'], ["a binary of no known kind", Buffer.from([9, 0, 0, 0, 0])]]) {
    test(`phoenix_16: what nobody can decode, ${what}, closes with 1011`, async () => {
      const ws = new WebSocket(`${server.ws}/socket/websocket?vsn=2.0.0`)
      await within(once(ws, "open"), "the connection")
      ws.send(frame)
      const [code] = await within(once(ws, "close"), "the close")
      assert.equal(code, 1011)
    })
  }

  for (const query of ["vsn=3.0.0", "vsn=2", "vsn=", "token=bad"]) {
    test(`phoenix_2, phoenix_6: the upgrade is refused with ${query}`, async () => {
      const ws = new WebSocket(`${server.ws}/socket/websocket?${query}`)
      const [, response] = await within(once(ws, "unexpected-response"), "a refusal")
      assert.equal(response.statusCode, 403)
      ws.on("error", () => {})
      ws.terminate()
    })
  }

  test("phoenix_1, phoenix_16: a long-poll session is curled", async () => {
    const url = `${server.http}/socket/longpoll?vsn=2.0.0`
    const created = await curl(url)
    assert.equal(created.status, 410)
    assert.deepEqual(created.messages, [])
    const session = `${url}&token=${encodeURIComponent(created.token)}`

    assert.deepEqual(await curl(session, '["1","1","room:curl","phx_join",{"a":1}]'), {status: 200})
    const {status, token, messages} = await curl(session)
    assert.equal(status, 200)
    // It says what has arrived. Who goes on with the first one is served as well, as below.
    assert.match(token, /^[\w.-]{20,}$/)
    assert.notEqual(token, created.token)
    assert.deepEqual(messages.map(JSON.parse), [
      ["1", "1", "room:curl", "phx_reply", {status: "ok", response: {topic: "room:curl", params: {a: 1}, user: "anon"}}],
    ])

    const waiting = curl(session)
    await server.post("/publish", {topic: "room:curl", event: "news", payload: {n: 1}})
    assert.deepEqual((await waiting).messages.map(JSON.parse), [[null, null, "room:curl", "news", {n: 1}]])

    assert.deepEqual(await curl(url, '["1","2","room:curl","echo",{}]'), {status: 410})
    assert.deepEqual(await curl(`${url}&token=nonsense`, "[]"), {status: 410})
    assert.deepEqual(await curl(`${server.http}/socket/longpoll?vsn=9`), {status: 403})
  })

  /** A WebSocket on which one text is sent and one JSON text comes back. */
  async function typing(path, talk) {
    const ws = new WebSocket(server.ws + path)
    const heard = new Inbox(`a frame at ${path}`)
    ws.on("message", text => heard.put(JSON.parse(text)))
    await within(once(ws, "open"), "the connection")
    ws.ask = text => {
      ws.send(text)
      return heard.next()
    }
    try {
      await talk(ws)
    } finally {
      ws.terminate()
    }
  }
})

async function curl(url, body) {
  const response = await fetch(url, body === undefined ? {} : {method: "POST", body})
  assert.equal(response.status, 200)
  return response.json()
}
