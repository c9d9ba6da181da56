// Pushes and their replies.

import assert from "node:assert/strict"
import {answer, inbox} from "../support/clients.mjs"
import {checks} from "../support/check.mjs"

const PAYLOADS = [
  ["an object", {a: 1, b: {c: [1, 2, {d: null}]}}],
  ["an empty object", {}],
  ["text beyond ASCII", {text: "ünï→ 漢字 🎺 \u0000 \"\\ </script>"}],
  ["a list", [1, "two", null, [3]]],
  ["a string", "plain"],
  ["a number", -12.5e-3],
  ["a boolean", true],
  ["unusual keys", {"": 1, "constructor": 2, "a.b": 3, "phx_reply": 4}],
  ["a megabyte", {text: "x".repeat(1_000_000)}],
]

const STATUSES = [
  ["echo_bare", "ok", {}],
  ["error_bare", "error", {}],
  ["custom_status", "accepted_later", {p: 1}],
  ["fail", "error", {reason: "nope"}],
  ["reply_list", "ok", [1, 2, 3]],
  ["reply_nil", "ok", null],
  ["async_reply", "ok", {p: 1}],
  ["double_reply", "ok", {n: 1}],
]

checks("push", check => {
  for (const [what, payload] of PAYLOADS) {
    check(`${what} is echoed unharmed`, {}, async visit => {
      const channel = await visit.join(visit.topic())
      assert.deepEqual(await answer(channel.push("echo", payload)), {status: "ok", response: payload})
    })
  }

  for (const [event, status, response] of STATUSES) {
    check(`${event} is answered ${status}`, {networks: ["good", "sliced"]}, async visit => {
      const channel = await visit.join(visit.topic())
      assert.deepEqual(await answer(channel.push(event, {p: 1}), [status, "timeout"]), {status, response})
    })
  }

  check("a push without an answer times out and the channel stays joined", {}, async visit => {
    const channel = await visit.join(visit.topic())
    assert.equal((await answer(channel.push("noreply", {}, 200))).status, "timeout")
    assert.deepEqual(await answer(channel.push("echo", {n: 2})), {status: "ok", response: {n: 2}})
  })

  check("an answer after the client's timeout is nobody's", {}, async visit => {
    const channel = await visit.join(visit.topic())
    assert.equal((await answer(channel.push("slow", {ms: 300}, 50))).status, "timeout")
    assert.deepEqual(await answer(channel.push("echo", {n: 3})), {status: "ok", response: {n: 3}})
  })

  check("250 pushes made at once are answered in order", {networks: ["good", "sliced"]}, async visit => {
    const channel = await visit.join(visit.topic())
    const order = []
    const pushes = Array.from({length: 250}, (_, n) => answer(channel.push("echo", {n})).then(({response}) => order.push(response.n)))
    await Promise.all(pushes)
    assert.deepEqual(order, Array.from({length: 250}, (_, n) => n))
  })

  check("a thousand pushes of the server come in order, before the reply", {}, async visit => {
    const channel = await visit.join(visit.topic())
    const box = inbox(channel, "b")
    await answer(channel.push("burst", {n: 1000}))
    assert.deepEqual(box.rest(), Array.from({length: 1000}, (_, n) => ({i: n + 1})))
  })

  check("a broadcast, a push and a reply come in the order in which they were made", {networks: ["good", "sliced"]}, async visit => {
    const channel = await visit.join(visit.topic())
    const order = []
    for (const event of ["b", "p", "bf"]) channel.on(event, () => order.push(event))
    await answer(channel.push("bcast_push_reply", {}).receive("ok", () => order.push("reply")))
    assert.deepEqual(order, ["b", "p", "reply"])
  })

  check("a busy channel delays no other", {}, async visit => {
    const busy = await visit.join(visit.topic())
    const other = await visit.join(visit.topic(), {socket: busy.socket})
    const order = []
    const slow = answer(busy.push("slow", {ms: 500})).then(() => order.push("slow"))
    await answer(other.push("echo", {})).then(() => order.push("echo"))
    await slow
    assert.deepEqual(order, ["echo", "slow"])
  })

  check("an event name beyond ASCII arrives", {}, async visit => {
    const channel = await visit.join(visit.topic())
    const box = inbox(channel, "ünï→")
    channel.push("unicode", {})
    await box.next()
  })

  check("the channel knows its transport, version and user", {}, async visit => {
    const topic = visit.topic()
    const channel = await visit.join(topic, {socket: visit.connect({params: {user: "bob"}}), params: {a: 1}})
    const {response} = await answer(channel.push("assigns", {}))
    assert.equal(response.transport, visit.transport)
    assert.equal(response.serializer, "Phoenix.Socket.V2.JSONSerializer")
    assert.equal(response.topic, topic)
    assert.equal(response.id, "user_socket:bob")
    assert.deepEqual(response.assigns, {user: "bob", join_params: {a: 1}})
  })
})
