// Presence as the client's own Presence sees it.

import assert from "node:assert/strict"
import {answer, happens, inbox} from "../support/clients.mjs"
import {checks} from "../support/check.mjs"
import {eventually} from "../support/deadline.mjs"

// A long-poll session that just stops polling is given up after 1.5 to 3 windows.
const LEAVE_MS = 4_000

checks("presence", check => {
  check("one who joins sees all who are there, itself included", {networks: ["good", "sliced"]}, async visit => {
    const topic = visit.topic("presence")
    await attend(visit, topic, "ann", {device: "desk"})
    const bob = await attend(visit, topic, "bob")
    await bob.seesMetas({ann: [{device: "desk"}], bob: [{}]})
  })

  check("those who are there see who comes, and who leaves", {}, async visit => {
    const topic = visit.topic("presence")
    const ann = await attend(visit, topic, "ann")
    await ann.sees(["ann"])
    const bob = await attend(visit, topic, "bob")
    await ann.sees(["ann", "bob"])
    bob.channel.leave()
    await ann.sees(["ann"])
    assert.deepEqual(ann.told, ["ann came", "bob came", "bob left"])
  })

  check("one whose connection is lost leaves", {}, async visit => {
    const topic = visit.topic("presence")
    const ann = await attend(visit, topic, "ann")
    const proxy = await visit.through({})
    await attend(visit, topic, "bob", {}, "/short")
    await ann.sees(["ann", "bob"])
    proxy.cut()
    await ann.sees(["ann"], visit.overWebSocket ? 2_000 : LEAVE_MS)
  })

  check("one whose channel crashes leaves, and comes back with its next join", {}, async visit => {
    const topic = visit.topic("presence")
    const ann = await attend(visit, topic, "ann")
    const bob = await attend(visit, topic, "bob")
    await ann.sees(["ann", "bob"])
    bob.channel.push("no such event", {})
    await ann.sees(["ann"])
    await ann.sees(["ann", "bob"])
    await bob.sees(["ann", "bob"])
  })

  check("one key with two connections is one presence with two metas", {}, async visit => {
    const topic = visit.topic("presence")
    const desk = await attend(visit, topic, "ann", {device: "desk"})
    const phone = await attend(visit, topic, "ann", {device: "phone"})
    await desk.seesMetas({ann: [{device: "desk"}, {device: "phone"}]})
    desk.channel.leave()
    await phone.seesMetas({ann: [{device: "phone"}]})
    // The first leaving of the key's two is no leaving of the key.
    assert.ok(!phone.told.includes("ann left"), phone.told.join(", "))
  })

  check("an update replaces the meta and is no leaving", {}, async visit => {
    const topic = visit.topic("presence")
    const ann = await attend(visit, topic, "ann", {status: "here"})
    const bob = await attend(visit, topic, "bob")
    await bob.sees(["ann", "bob"])
    const {response: {ref}} = await answer(ann.channel.push("update", {status: "away"}))
    await bob.seesMetas({ann: [{status: "away"}], bob: [{}]})
    assert.equal(bob.presence.state.ann.metas[0].phx_ref, ref)
    assert.ok(bob.presence.state.ann.metas[0].phx_ref_prev)
    await answer(ann.channel.push("update_fn", {}))
    await bob.seesMetas({ann: [{status: "away", n: 1}], bob: [{}]})
    assert.ok(!bob.told.includes("ann left"), bob.told.join(", "))
  })

  check("untrack and track change what others see", {}, async visit => {
    const topic = visit.topic("presence")
    const ann = await attend(visit, topic, "ann")
    const bob = await attend(visit, topic, "bob")
    await ann.sees(["ann", "bob"])
    await answer(bob.channel.push("untrack", {}))
    await ann.sees(["ann"])
    await answer(bob.channel.push("track", {key: "guest", meta: {}}))
    await ann.sees(["ann", "guest"])
  })

  check("what the server lists is what the client has", {}, async visit => {
    const topic = visit.topic("presence")
    await attend(visit, topic, "ann", {n: 1})
    const bob = await attend(visit, topic, "bob", {n: 2})
    await bob.sees(["ann", "bob"])
    const {response} = await answer(bob.channel.push("list", {}))
    assert.deepEqual(response, {...bob.presence.state})
    assert.deepEqual(await (await fetch(`${visit.server.http}/presence/${topic}`)).json(), response)
  })

  // Version 1.7 of the client keeps presences in a plain object, which such a key upsets.
  check("a key that upsets objects is a key", {on: ({version}) => version.startsWith("1.8")}, async visit => {
    const topic = visit.topic("presence")
    const ann = await attend(visit, topic, "ann")
    for (const key of ["__proto__", "constructor"]) await attend(visit, topic, key)
    await ann.sees(["__proto__", "ann", "constructor"])
  })

  check("what fetch adds is there in the state and in the diffs", {}, async visit => {
    const topic = visit.topic("fpresence")
    const ann = await attend(visit, topic, "ann")
    const metas = inbox(ann.channel, "metas")
    const bob = await attend(visit, topic, "bob")
    await eventually(() => ann.presence.state.bob, "ann to see bob")
    await eventually(() => bob.presence.state.ann, "bob to see ann")
    assert.deepEqual(ann.presence.state.bob.user, {name: "name-bob"})
    assert.deepEqual(bob.presence.state.ann.user, {name: "name-ann"})
    for (;;) {
      const {joins, now} = await metas.next()
      // Of several nodes each tells what it knows, and bob's may not have heard of ann yet.
      if (!joins.includes("bob") || now.length < 2) continue
      assert.deepEqual([...now].sort(), ["ann", "bob"])
      break
    }
  })

  check("after a reconnect the state is that of now", {}, async visit => {
    const topic = visit.topic("presence")
    const away = await visit.through({})
    const ann = await attend(visit, topic, "ann", {}, "/short")
    await ann.sees(["ann"])
    const gone = happens(ann.channel.socket, "close")
    away.cut()
    await gone
    await visit.through({})
    await attend(visit, topic, "bob")
    away.mend()
    await ann.sees(["ann", "bob"])
  })
})

/** Joins as `key`, with the client's Presence on the channel. */
async function attend(visit, topic, key, meta = {}, mount = "/socket") {
  const socket = visit.connect({mount})
  const channel = socket.channel(topic, {key, meta})
  const presence = new visit.Presence(channel)
  const told = []
  presence.onJoin((who, known) => known || told.push(`${who} came`))
  presence.onLeave((who, left) => left.metas.length > 0 || told.push(`${who} left`))
  const joined = await answer(channel.join())
  assert.deepEqual(joined, {status: "ok", response: {}})
  return {
    channel,
    presence,
    told,
    sees: (keys, ms) => {
      const now = () => presence.list(who => who).sort()
      return eventually(() => String(now()) === String(keys), `${key} to see ${keys}`, ms)
        .catch(error => assert.deepEqual(now(), keys, error.message))
    },
    seesMetas: metas => {
      const now = () => Object.fromEntries(presence.list((who, {metas}) => [who, metas.map(withoutRefs).sort(byText)]))
      return eventually(() => isEqual(now(), metas), `${key} to see ${JSON.stringify(metas)}`)
        .catch(error => assert.deepEqual(now(), metas, error.message))
    },
  }
}

function withoutRefs({phx_ref, phx_ref_prev, ...meta}) {
  return meta
}

function byText(a, b) {
  return JSON.stringify(a) < JSON.stringify(b) ? -1 : 1
}

function isEqual(a, b) {
  try {
    assert.deepEqual(a, b)
    return true
  } catch {
    return false
  }
}
