// Binary payloads. A WebSocket carries them both ways; over long-polling they come back as {"binary": "<base64>"}.

import assert from "node:assert/strict"
import {answer, inbox} from "../support/clients.mjs"
import {checks} from "../support/check.mjs"

const ALL_BYTES = Uint8Array.from({length: 256}, (_, n) => n)
const BOTH = {networks: ["good", "sliced"]}
const SIZES = [
  ["no bytes", new Uint8Array(), ["good", "sliced"]],
  ["every byte", ALL_BYTES, ["good", "sliced"]],
  ["8 KiB", new Uint8Array(8_192).fill(7), ["sliced"]],
  ["1 MiB", new Uint8Array(1_048_576).fill(7), ["good"]],
]

checks("binary", check => {
  for (const [what, bytes, networks] of SIZES) {
    check(`${what}: echoed`, {networks}, async visit => {
      const channel = await visit.join(visit.topic())
      const {status, response} = await answer(channel.push("echo", bytes.slice().buffer))
      assert.equal(status, "ok")
      assertBytes(visit, response, bytes)
    })
  }

  check("the length that arrives is the length that was sent", {}, async visit => {
    const channel = await visit.join(visit.topic())
    const sent = await answer(channel.push("bin_len", new Uint8Array(300_000).buffer))
    assert.deepEqual(sent, {status: "ok", response: {len: 300_000}})
  })

  check("an error can be binary", {}, async visit => {
    const channel = await visit.join(visit.topic())
    const {status, response} = await answer(channel.push("bin_fail", ALL_BYTES.slice().buffer))
    assert.equal(status, "error")
    assertBytes(visit, response, ALL_BYTES)
  })

  check("a push of JSON can be answered in binary", {}, async visit => {
    const channel = await visit.join(visit.topic())
    const {response} = await answer(channel.push("bin_reply_json", {a: 1}))
    assertBytes(visit, response, Buffer.from('{"a":1}'))
  })

  check("a join can be answered in binary", {}, async visit => {
    const {status, response} = await answer(visit.connect().channel("room:binreply").join())
    assert.equal(status, "ok")
    assertBytes(visit, response, Buffer.from("joinbin"))
  })

  check("the server pushes binary", BOTH, async visit => {
    const channel = await visit.join(visit.topic())
    const box = inbox(channel, "bin_pushed")
    channel.push("bin_push", ALL_BYTES.slice().buffer)
    assertBytes(visit, await box.next(), ALL_BYTES)
  })

  check("a binary broadcast reaches every member, between its neighbours", BOTH, async visit => {
    const topic = visit.topic()
    const members = [await visit.join(topic), await visit.join(topic)]
    const boxes = members.map(member => inbox(member, "new_msg", "bin_out"))
    members[0].push("new_msg", {n: 1})
    members[0].push("bin_broadcast", ALL_BYTES.slice().buffer)
    members[0].push("new_msg", {n: 2})
    for (const box of boxes) {
      const [before, binary, behind] = await box.take(3)
      assert.deepEqual([before, behind], [["new_msg", {n: 1}], ["new_msg", {n: 2}]])
      assert.equal(binary[0], "bin_out")
      assertBytes(visit, binary[1], ALL_BYTES)
    }
  })

  check("a binary message from outside the channel reaches the members", {}, async visit => {
    const topic = visit.topic()
    const box = inbox(await visit.join(topic), "news")
    const payload_b64 = Buffer.from(ALL_BYTES).toString("base64")
    assert.deepEqual(await visit.server.post("/publish", {topic, event: "news", payload_b64}), {ok: true})
    assertBytes(visit, await box.next(), ALL_BYTES)
  })
})

function assertBytes(visit, payload, bytes) {
  if (visit.overWebSocket) {
    assert.ok(payload instanceof ArrayBuffer, `binary expected, not ${JSON.stringify(payload)}`)
    assert.deepEqual(Buffer.from(payload), Buffer.from(bytes))
  } else {
    assert.deepEqual(payload, {binary: Buffer.from(bytes).toString("base64")})
  }
}
