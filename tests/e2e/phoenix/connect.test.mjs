// Connecting: refusals, parameters, tokens, heartbeats, compression.

import assert from "node:assert/strict"
import {answer, happens, settle} from "../support/clients.mjs"
import {checks} from "../support/check.mjs"
import {eventually, sleep} from "../support/deadline.mjs"

const OVER_WEBSOCKET = ({transport}) => transport === "websocket"
const OVER_LONGPOLL = ({transport}) => transport === "longpoll"
const WITH_AUTH_TOKEN = ({version}) => version.startsWith("1.8")

// The last one's base64 has a + in it, which only the standard alphabet has.
const TOKENS = ["secret", "a.b-c_d", "~~~>>>"]

checks("connect", check => {
  for (const token of ["bad", "badreason", "rate", "crash"]) {
    check(`phoenix_6: a refused socket (${token}) never opens, and the client goes on trying`, {}, async visit => {
      let attempts = 0
      const socket = visit.connect({
        params: {token},
        reconnectAfterMs: () => {
          attempts += 1
          return 20
        },
      })
      let opened = false
      socket.onOpen(() => {
        opened = true
      })
      await happens(socket, "error")
      await eventually(() => attempts >= 3, "three attempts")
      assert.equal(opened, false)
    })
  }

  check("connect parameters arrive, nested ones too", {}, async visit => {
    const params = {user: "ann", nested: {a: {b: "ü&="}, list: "1"}}
    const channel = await visit.join("anything", {socket: visit.connect({mount: "/info", params})})
    const {response} = await answer(channel.push("assigns", {}))
    assert.deepEqual(response.assigns.params, {...params, vsn: "2.0.0"})
  })

  check("one version only", {on: OVER_WEBSOCKET}, async visit => {
    await settle(await visit.join(visit.topic(), {socket: visit.connect({mount: "/v2only"})}))
  })

  for (const token of TOKENS) {
    check(`phoenix_6: the auth token ${token} reaches connect`, {on: WITH_AUTH_TOKEN}, async visit => {
      const channel = await visit.join(visit.topic(), {socket: visit.connect({mount: "/auth", authToken: token})})
      const {response} = await answer(channel.push("assigns", {}))
      assert.equal(response.assigns.user, token)
      assert.ok(response.assigns.info.includes(token), response.assigns.info)
    })
  }

  check("phoenix_6: a mount with auth tokens is told when there is none", {}, async visit => {
    const channel = await visit.join(visit.topic(), {socket: visit.connect({mount: "/auth"})})
    const {response} = await answer(channel.push("assigns", {}))
    assert.equal(response.assigns.user, "")
  })

  check("phoenix_6: a bad auth token is refused", {on: WITH_AUTH_TOKEN}, async visit => {
    const socket = visit.connect({mount: "/auth", authToken: "bad"})
    await happens(socket, "error")
    assert.equal(socket.isConnected(), false)
  })

  check("phoenix_5: heartbeats keep a silent socket open", {on: OVER_WEBSOCKET}, async visit => {
    const socket = visit.connect({mount: "/short", heartbeatIntervalMs: 300})
    const closes = []
    socket.onClose(event => closes.push(event.code))
    await visit.join(visit.topic(), {socket})
    // Twice the mount's idle limit.
    await sleep(3_000)
    assert.deepEqual(closes, [])
    assert.equal(socket.isConnected(), true)
  })

  check("phoenix_5: a socket without heartbeats is closed after the idle limit, and comes back", {on: OVER_WEBSOCKET}, async visit => {
    const socket = visit.connect({mount: "/short"})
    const channel = await visit.join(visit.topic(), {socket})
    const opened = Date.now()
    const {code} = await happens(socket, "close")
    const lasted = Date.now() - opened
    assert.equal(code, 1002)
    assert.ok(lasted > 1_200 && lasted < 2_500, `closed after ${lasted} ms`)
    await eventually(() => channel.state === "joined" && socket.isConnected(), "the channel to be joined again")
  })

  check("phoenix_5: a long-poll session needs no heartbeats", {on: OVER_LONGPOLL}, async visit => {
    const socket = visit.connect({mount: "/short"})
    const channel = await visit.join(visit.topic(), {socket})
    const closes = []
    socket.onClose(event => closes.push(event))
    // Three of the mount's windows.
    await sleep(3_200)
    assert.deepEqual(closes, [])
    await settle(channel)
  })

  check("a ping is answered", {}, async visit => {
    const socket = visit.connect()
    await happens(socket, "open")
    await new Promise(resolve => assert.ok(socket.ping(resolve)))
  })

  check("a compressed connection carries everything", {on: OVER_WEBSOCKET, networks: ["good", "sliced"]}, async visit => {
    const channel = await visit.join(visit.topic(), {socket: visit.connect({mount: "/comp"})})
    assert.match(channel.socket.conn.extensions, /permessage-deflate/)
    for (const text of ["short", "repeated ".repeat(2_000), "x"]) {
      assert.deepEqual(await answer(channel.push("echo", {text})), {status: "ok", response: {text}})
    }
  })

  check("no compression where it is off", {on: OVER_WEBSOCKET}, async visit => {
    const channel = await visit.join(visit.topic())
    assert.equal(channel.socket.conn.extensions, "")
  })
})
