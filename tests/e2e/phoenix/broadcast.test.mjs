// Broadcasts: who gets them, who does not, and in which order.

import assert from "node:assert/strict"
import {describe, test} from "node:test"
import {CLIENTS, Visit, answer, inbox, settle} from "../support/clients.mjs"
import {checks} from "../support/check.mjs"
import {startOracle} from "../support/process.mjs"

const TWO_HUNDRED = Array.from({length: 200}, (_, n) => ({n}))

checks("broadcast", check => {
  check("phoenix_4, phoenix_12: every member gets a message, the sender too, once", {networks: ["good", "sliced"]}, async visit => {
    const members = await joinMany(visit, visit.topic(), 3)
    const boxes = members.map(member => inbox(member, "new_msg"))
    members[0].push("new_msg", {body: "hello", name: "ann"})
    for (const box of boxes) assert.deepEqual(await box.next(), {body: "hello", name: "ann"})
    await Promise.all(members.map(settle))
    assert.deepEqual(boxes.map(box => box.rest()), [[], [], []])
  })

  check("phoenix_12: broadcast_from leaves out the sender only", {}, async visit => {
    const members = await joinMany(visit, visit.topic(), 3)
    const boxes = members.map(member => inbox(member, "shout"))
    members[0].push("shout_from", {loud: true})
    for (const box of boxes.slice(1)) assert.deepEqual(await box.next(), {loud: true})
    await settle(members[0])
    assert.deepEqual(boxes[0].rest(), [])
  })

  check("phoenix_12: the server can broadcast to a topic from anywhere", {}, async visit => {
    const topic = visit.topic()
    const members = await joinMany(visit, topic, 2)
    const boxes = members.map(member => inbox(member, "news"))
    assert.deepEqual(await visit.server.post("/publish", {topic, event: "news", payload: {n: 1}}), {ok: true})
    for (const box of boxes) assert.deepEqual(await box.next(), {n: 1})
  })

  check("another topic hears nothing", {}, async visit => {
    const [here, there] = [await visit.join(visit.topic()), await visit.join(visit.topic())]
    const box = inbox(there, "new_msg")
    await answer(here.push("new_msg_reply", {}))
    await settle(there)
    assert.deepEqual(box.rest(), [])
  })

  check("the messages of one sender come in order", {networks: ["good", "sliced"]}, async visit => {
    const members = await joinMany(visit, visit.topic(), 2)
    const boxes = members.map(member => inbox(member, "new_msg"))
    for (const message of TWO_HUNDRED) members[0].push("new_msg", message)
    for (const box of boxes) assert.deepEqual(await box.take(200), TWO_HUNDRED)
  })

  check("the sender's own broadcast comes before the reply", {}, async visit => {
    const channel = await visit.join(visit.topic())
    const box = inbox(channel, "new_msg")
    await answer(channel.push("new_msg_reply", {n: 1}))
    assert.deepEqual(box.rest(), [{n: 1}])
  })

  check("phoenix_13: an intercepted event is rewritten for each member, or dropped", {}, async visit => {
    const topic = visit.topic()
    const members = []
    for (const user of ["ann", "bob"]) members.push(await visit.join(topic, {socket: visit.connect({params: {user}})}))
    const boxes = members.map(member => inbox(member, "intercepted", "dropped"))
    await answer(members[0].push("do_drop", {}))
    members[0].push("do_intercept", {n: 1})
    assert.deepEqual(await boxes[0].next(), ["intercepted", {n: 1, for: "ann"}])
    assert.deepEqual(await boxes[1].next(), ["intercepted", {n: 1, for: "bob"}])
  })

  check("a channel can listen to another topic", {}, async visit => {
    const [listener, speaker] = [await visit.join(visit.topic()), await visit.join(visit.topic())]
    const other = visit.topic("elsewhere")
    const box = inbox(listener, "fwd")
    await answer(listener.push("sub_other", {topic: other}))
    await answer(speaker.push("bcast_other", {topic: other, n: 1}))
    assert.deepEqual(await box.next(), {topic: other, event: "other", payload: {topic: other, n: 1}})
  })
})

describe("broadcast in mixed company", () => {
  test("all versions and transports in one room hear each other", async () => {
    const server = await startOracle()
    const visits = CLIENTS.map(client => new Visit(client, server))
    try {
      const members = await Promise.all(visits.map(visit => visit.join("room:mixed")))
      const boxes = members.map(member => inbox(member, "new_msg"))
      for (const [n, member] of members.entries()) {
        member.push("new_msg", {n})
        for (const box of boxes) assert.deepEqual(await box.next(), {n})
      }
    } finally {
      for (const visit of visits) await visit.end()
      await server.remove()
    }
  })
})

function joinMany(visit, topic, count) {
  return Promise.all(Array.from({length: count}, () => visit.join(topic)))
}
