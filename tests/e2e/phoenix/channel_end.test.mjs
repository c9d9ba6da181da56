// How a channel ends: left, replaced, stopped or crashed, and what the client makes of it.

import assert from "node:assert/strict"
import {answer, inbox, rejoins, settle} from "../support/clients.mjs"
import {checks} from "../support/check.mjs"
import {Inbox, within} from "../support/deadline.mjs"

const CLOSES = ["stop", "stop_shutdown", "stop_shutdown_tuple"]
const ERRORS = ["crash", "stop_error", "kill", "exit_normal", "exit_shutdown", "no such event"]

checks("the end of a channel", check => {
  check("phoenix_3: leaving is answered, closes the channel, and ends the messages", {networks: ["good", "sliced"]}, async visit => {
    const topic = visit.topic()
    const [stays, leaves] = [await visit.join(topic), await visit.join(topic)]
    const box = inbox(leaves, "new_msg")
    const joinRef = leaves.joinRef()
    // The client counts a leave as done when it is written; what the server answers shows only in the messages.
    const answers = new Inbox(`messages on ${topic}`)
    leaves.socket.onMessage(message => message.topic === topic && answers.put(message))
    leaves.leave()
    const [reply, close] = await answers.take(2)
    assert.deepEqual([reply.event, reply.payload, reply.join_ref], ["phx_reply", {status: "ok", response: {}}, joinRef])
    assert.deepEqual([close.event, close.payload, close.join_ref], ["phx_close", {}, joinRef])
    await answer(stays.push("new_msg_reply", {}))
    assert.deepEqual(box.rest(), [])
    const again = await visit.join(topic, {socket: leaves.socket})
    await settle(again)
  })

  check("a topic that was left can be joined at once, and the leave is answered too", {}, async visit => {
    const topic = visit.topic()
    const first = await visit.join(topic)
    const replies = []
    first.socket.onMessage(({event, payload, join_ref}) => event === "phx_reply" && replies.push([join_ref, payload.status]))
    const left = first.joinRef()
    first.leave()
    const second = await visit.join(topic, {socket: first.socket})
    await settle(second)
    assert.ok(replies.some(([ref, status]) => ref === left && status === "ok"), JSON.stringify(replies))
  })

  check("phoenix_3: a second channel object for a topic replaces the first", {}, async visit => {
    const topic = visit.topic()
    const first = await visit.join(topic)
    const closed = closing(first)
    const second = await visit.join(topic, {socket: first.socket})
    await closed
    const box = inbox(second, "new_msg")
    await answer(second.push("new_msg_reply", {n: 1}))
    await settle(second)
    assert.deepEqual(box.rest(), [{n: 1}])
  })

  for (const event of CLOSES) {
    check(`${event} closes the channel for good`, {}, async visit => {
      const [channel, other] = await pair(visit)
      const closed = closing(channel)
      channel.push(event, {})
      await closed
      assert.equal(channel.state, "closed")
      await settle(other)
    })
  }

  for (const event of ERRORS) {
    check(`phoenix_14: after ${event} the client joins again, and its other channels notice nothing`, {}, async visit => {
      const [channel, other] = await pair(visit)
      const errors = []
      channel.onError(reason => errors.push(reason))
      other.onError(reason => errors.push(`other: ${reason}`))
      const joined = rejoins(channel)
      channel.push(event, {})
      await settle(other)
      await joined
      await settle(channel)
      assert.equal(errors.length, 1)
      assert.deepEqual(errors[0], {reason: "channel_crash"})
    })
  }

  check("a stop may answer first", {}, async visit => {
    const [channel] = await pair(visit)
    const closed = closing(channel)
    assert.deepEqual(await answer(channel.push("stop_reply", {})), {status: "ok", response: {bye: true}})
    await closed
    const [failing] = await pair(visit)
    const joined = rejoins(failing)
    assert.deepEqual(await answer(failing.push("stop_error_reply", {})), {status: "error", response: {bye: true}})
    await joined
  })

  check("a push right behind one that crashes the channel is answered", {}, async visit => {
    const [channel] = await pair(visit)
    channel.push("crash", {})
    assert.deepEqual(await answer(channel.push("echo", {})), {status: "error", response: {reason: "unmatched topic"}})
  })

  check("a member who crashed hears the room again after its next join", {}, async visit => {
    const topic = visit.topic()
    const [channel, other] = [await visit.join(topic), await visit.join(topic)]
    const box = inbox(channel, "new_msg")
    const joined = rejoins(channel)
    channel.push("crash", {})
    await joined
    other.push("new_msg", {n: 1})
    assert.deepEqual(await box.next(), {n: 1})
  })
})

/** Two channels of one socket. */
async function pair(visit) {
  const channel = await visit.join(visit.topic())
  return [channel, await visit.join(visit.topic(), {socket: channel.socket})]
}

function closing(channel) {
  return within(new Promise(resolve => channel.onClose(resolve)), `the close of ${channel.topic}`)
}
