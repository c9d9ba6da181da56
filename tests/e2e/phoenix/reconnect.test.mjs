// Connections that end, and clients that come back: restarts, drains, cut and silent networks, the disconnect broadcast.

import assert from "node:assert/strict"
import {answer, happens, inbox, rejoins, settle} from "../support/clients.mjs"
import {checksWithOwnServer} from "../support/check.mjs"
import {eventually} from "../support/deadline.mjs"

const OVER_WEBSOCKET = ({transport}) => transport === "websocket"
// Version 1.7 over long-polling takes the new session that a 410 offers for its old one and does not join again.
const REJOINS_AFTER_GONE = ({version, transport}) => transport === "websocket" || version.startsWith("1.8")

checksWithOwnServer("reconnect", check => {
  for (const signal of ["SIGKILL", "SIGTERM"]) {
    check(`after a restart by ${signal} the members are back and hear each other`, {}, async visit => {
      const topic = visit.topic()
      const members = [await visit.join(topic), await visit.join(topic)]
      const [gone, back] = [members.map(({socket}) => happens(socket, "close")), members.map(rejoins)]
      await visit.server.stop(signal)
      // A poll that was answered by the drain and reaches the next server already would be answered with a new session.
      if (!REJOINS_AFTER_GONE(visit)) await Promise.all(gone)
      await visit.server.start()
      await Promise.all(back)
      const boxes = members.map(member => inbox(member, "new_msg"))
      members[0].push("new_msg", {n: 1})
      for (const box of boxes) assert.deepEqual(await box.next(), {n: 1})
    })
  }

  check("SIGTERM closes with 1012 and ends with status 0", {on: OVER_WEBSOCKET}, async visit => {
    const idle = visit.connect()
    await happens(idle, "open")
    const busy = await visit.join(visit.topic())
    busy.push("slow", {ms: 500})
    const quiet = await visit.join(visit.topic())
    const closes = [idle, busy.socket, quiet.socket].map(socket => happens(socket, "close"))
    assert.equal(await visit.server.stop("SIGTERM"), 0)
    assert.deepEqual((await Promise.all(closes)).map(({code}) => code), [1012, 1012, 1012])
  })

  check("SIGTERM ends with status 0 while polls wait", {on: client => !OVER_WEBSOCKET(client)}, async visit => {
    await visit.join(visit.topic())
    const before = Date.now()
    assert.equal(await visit.server.stop("SIGTERM"), 0)
    assert.ok(Date.now() - before < 8_000, "the waiting poll was not answered before its window ended")
  })

  check("the drain of one socket closes it with 1012, and it comes back", {on: OVER_WEBSOCKET}, async visit => {
    const channel = await visit.join(visit.topic())
    const closed = happens(channel.socket, "close")
    const back = rejoins(channel)
    channel.push("fwd_close", {})
    assert.equal((await closed).code, 1012)
    await back
  })

  check("what was pushed while away is delivered on return", {}, async visit => {
    const topic = visit.topic()
    const channel = await visit.join(topic)
    const box = inbox(channel, "new_msg")
    const away = happens(channel.socket, "close")
    await visit.server.stop("SIGKILL")
    await away
    channel.push("new_msg", {n: 1})
    channel.push("new_msg", {n: 2})
    await visit.server.start()
    assert.deepEqual(await box.take(2), [{n: 1}, {n: 2}])
  })

  check("fifty sockets come back at once", {}, async visit => {
    const topic = visit.topic()
    const members = await Promise.all(Array.from({length: 50}, () => visit.join(topic)))
    const back = members.map(rejoins)
    await visit.server.stop("SIGKILL")
    await visit.server.start()
    await Promise.all(back)
    const boxes = members.map(member => inbox(member, "new_msg"))
    await answer(members[0].push("new_msg_reply", {n: 1}))
    for (const box of boxes) assert.deepEqual(await box.next(), {n: 1})
  })

  check("a cut connection comes back, and the others notice nothing", {}, async visit => {
    const topic = visit.topic()
    const stays = await visit.join(topic)
    const proxy = await visit.through({})
    const cut = await visit.join(topic)
    const closes = []
    stays.socket.onClose(event => closes.push(event.code))
    const [away, back] = [happens(cut.socket, "close"), rejoins(cut)]
    proxy.cut()
    await away
    await settle(stays)
    proxy.mend()
    await back
    const box = inbox(cut, "new_msg")
    stays.push("new_msg", {n: 1})
    assert.deepEqual(await box.next(), {n: 1})
    assert.deepEqual(closes, [])
  })

  check("a network that fell silent is noticed by the client's heartbeat", {on: OVER_WEBSOCKET}, async visit => {
    const proxy = await visit.through({})
    const socket = visit.connect({heartbeatIntervalMs: 300})
    const channel = await visit.join(visit.topic(), {socket})
    const back = rejoins(channel)
    proxy.silence()
    await eventually(() => !socket.isConnected(), "the client to give the connection up")
    proxy.mend()
    await back
    await settle(channel)
  })

  check("phoenix_7: the disconnect broadcast closes the user's sockets, and nobody else's", {on: REJOINS_AFTER_GONE}, async visit => {
    const as = user => visit.join(visit.topic(), {socket: visit.connect({params: {user}})})
    const [first, second, other] = [await as("ann"), await as("ann"), await as("bob")]
    const closes = []
    other.socket.onClose(event => closes.push(event.code))
    const closed = [first, second].map(({socket}) => happens(socket, "close"))
    const back = [first, second].map(rejoins)
    assert.deepEqual(await visit.server.post("/disconnect?id=user_socket:ann"), {ok: true})
    const codes = (await Promise.all(closed)).map(({code}) => code)
    if (visit.overWebSocket) assert.deepEqual(codes, [1001, 1001])
    await Promise.all(back)
    await settle(other)
    assert.deepEqual(closes, [])
  })
})
