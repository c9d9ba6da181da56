// Joining: what is answered, in which order, and what the client makes of a refusal.

import assert from "node:assert/strict"
import {answer, inbox, rejoins, settle} from "../support/clients.mjs"
import {checks, checksWithOwnServer} from "../support/check.mjs"

const ANSWERS = [
  ["room:secret", "error", {reason: "unauthorized"}],
  ["room:crash", "error", {reason: "join crashed"}],
  ["room:badjoin", "error", {reason: "join crashed"}],
  ["lobby:1", "error", {reason: "unmatched topic"}],
  ["room", "error", {reason: "unmatched topic"}],
  ["room:slow", "ok", {slow: true}],
  ["room:noreply", "ok", {}],
  ["room:listreply", "ok", [1, 2]],
  ["exact", "ok", {topic: "exact", params: {}, user: "anon"}],
  ["room:", "ok", {topic: "room:", params: {}, user: "anon"}],
  ["room:ünï→", "ok", {topic: "room:ünï→", params: {}, user: "anon"}],
]

checks("join", check => {
  check("phoenix_3: a declared topic is joined with the parameters given", {networks: ["good", "sliced"]}, async visit => {
    const topic = visit.topic()
    const socket = visit.connect({params: {user: "ann"}})
    const params = {a: 1, nested: {list: [1, "x", null]}}
    const joined = await answer(socket.channel(topic, params).join())
    assert.deepEqual(joined, {status: "ok", response: {topic, params, user: "ann"}})
  })

  for (const [topic, status, response] of ANSWERS) {
    check(`phoenix_3, phoenix_11: joining ${topic} answers ${status}`, {}, async visit => {
      const channel = visit.connect().channel(topic)
      assert.deepEqual(await answer(channel.join()), {status, response})
    })
  }

  check("phoenix_10: one socket carries a hundred channels, joined at once", {networks: ["good", "sliced"]}, async visit => {
    const socket = visit.connect()
    const topics = Array.from({length: 100}, () => visit.topic())
    const joined = await Promise.all(topics.map(topic => answer(socket.channel(topic).join())))
    assert.deepEqual(joined.map(({response}) => response.topic), topics)
  })

  // The mount with the low limit has no long-polling.
  check("one channel above the limit of the socket is refused", {on: ({transport}) => transport === "websocket"}, async visit => {
    const socket = visit.connect({mount: "/maxch"})
    for (let i = 0; i < 3; i++) await visit.join(visit.topic(), {socket})
    const refused = await answer(socket.channel(visit.topic()).join())
    assert.deepEqual(refused, {status: "error", response: {reason: "too many channels joined"}})
  })

  check("a refused join harms no other channel of the socket", {}, async visit => {
    const channel = await visit.join(visit.topic())
    for (const topic of ["room:secret", "room:crash", "nowhere"]) {
      await answer(channel.socket.channel(topic).join())
    }
    assert.deepEqual(await answer(channel.push("echo", {still: "here"})), {status: "ok", response: {still: "here"}})
  })

  check("a refused join is tried again by the client and refused again", {}, async visit => {
    const socket = visit.connect({rejoinAfterMs: () => 50})
    const refusals = []
    socket.channel("room:secret").join().receive("error", response => refusals.push(response))
    const other = await visit.join("room:slow", {socket})
    await settle(other)
    assert.ok(refusals.length >= 2, `${refusals.length} refusals in 400 ms`)
    assert.deepEqual(refusals[0], {reason: "unauthorized"})
  })

  check("what join pushes comes after the reply", {}, async visit => {
    const socket = visit.connect()
    const channel = socket.channel("room:pushjoin")
    const order = []
    const pushed = inbox(channel, "after_join")
    channel.on("after_join", () => order.push("push"))
    channel.join().receive("ok", () => order.push("reply"))
    await pushed.next()
    assert.deepEqual(order, ["reply", "push"])
  })

  check("a slow join delays no other topic of the socket", {}, async visit => {
    const channel = await visit.join(visit.topic())
    const order = []
    const slow = answer(channel.socket.channel("room:slow").join()).then(() => order.push("slow"))
    await settle(channel)
    order.push("echo")
    await slow
    assert.deepEqual(order, ["echo", "slow"])
  })

  check("pushes made before the join is answered are delivered after it, in order", {}, async visit => {
    const channel = visit.connect().channel("room:slow")
    channel.join()
    const answers = await Promise.all([1, 2, 3].map(n => answer(channel.push("echo", {n}))))
    assert.deepEqual(answers.map(({response}) => response.n), [1, 2, 3])
  })

  check("a join that times out is left and joined again", {}, async visit => {
    const channel = visit.connect({rejoinAfterMs: () => 50}).channel("room:slow")
    const joining = channel.join(100)
    assert.equal((await answer(joining, ["ok", "timeout"])).status, "timeout")
    // The client would repeat its short timeout for ever.
    channel.timeout = 5000
    await rejoins(channel)
    await settle(channel)
  })

  check("joining a topic again on another socket is a second membership", {}, async visit => {
    const topic = visit.topic()
    const [first, second] = [await visit.join(topic), await visit.join(topic)]
    const boxes = [inbox(first, "new_msg"), inbox(second, "new_msg")]
    first.push("new_msg", {body: "both"})
    for (const box of boxes) assert.deepEqual(await box.next(), {body: "both"})
  })
})

// The topic that broadcasts when it is joined is one and the same for all.
checksWithOwnServer("join that broadcasts", check => {
  check("the members hear it, the one who joins does not", {}, async visit => {
    const member = await visit.join("room:bcastjoin")
    const heard = inbox(member, "from_join")
    const newcomer = visit.connect().channel("room:bcastjoin")
    const own = inbox(newcomer, "from_join")
    assert.deepEqual(await answer(newcomer.join()), {status: "ok", response: {joined: true}})
    assert.deepEqual(await heard.next(), {})
    await settle(newcomer)
    assert.deepEqual(own.rest(), [])
  })
})
