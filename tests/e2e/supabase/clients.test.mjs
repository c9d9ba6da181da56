// Supabase's stock clients against the real binary: broadcast, presence, private channels, tokens, restarts.

import assert from "node:assert/strict"
import {after, before, describe, test} from "node:test"
import {Inbox, eventually, sleep, within} from "../support/deadline.mjs"
import {CLIENTS, PUBLISHABLE, Visit, anon, broadcasts, enter, startSupabase, subscribe, subscribed, token, user} from "../support/supabase.mjs"

const NAMES = Object.keys(CLIENTS)

describe("Supabase's clients", {concurrency: 4}, () => {
  let server
  before(async () => {
    server = await startSupabase()
  })
  after(() => server.remove())

  async function visit(run) {
    const visit = new Visit(server)
    try {
      await run(visit)
    } finally {
      await visit.end()
    }
  }

  for (const name of NAMES) {
    describe(name, {concurrency: 4}, () => {
      const topic = what => `${what} ${name}`

      test("broadcasts to every version, itself on request, and is answered", () => visit(async visit => {
        const channel = visit.client(name).channel(topic("chat"), {config: {broadcast: {self: true, ack: true}}})
        const own = broadcasts(channel, "msg")
        await enter(channel)
        const others = await Promise.all(NAMES.map(async other => {
          const channel = visit.client(other).channel(topic("chat"))
          const heard = broadcasts(channel, "msg")
          await enter(channel)
          return {channel, heard}
        }))
        const payload = {text: "ünï→", n: 1.5, list: [null, {}]}
        assert.equal(await channel.send({type: "broadcast", event: "msg", payload}), "ok")
        for (const inbox of [own, ...others.map(other => other.heard)]) {
          const {type, event, payload: heard} = await inbox.next()
          assert.deepEqual({type, event, heard}, {type: "broadcast", event: "msg", heard: payload})
        }
        assert.equal(await others[0].channel.send({type: "broadcast", event: "msg", payload: {n: 2}}), "ok")
        assert.deepEqual((await own.next()).payload, {n: 2})
      }))

      test("shows who is there, without duplicates", () => visit(async visit => {
        const join = async key => {
          const channel = visit.client(name).channel(topic("who"), {config: {presence: {key, enabled: true}}})
          const synced = new Inbox("a sync")
          channel.on("presence", {event: "sync"}, () => synced.put(null))
          await enter(channel)
          await synced.next()
          return channel
        }
        const shown = channel => Object.fromEntries(Object.entries(channel.presenceState()).map(([key, metas]) =>
          [key, metas.map(({presence_ref: _, phx_ref_prev: __, ...meta}) => meta)]))
        const [ada, bob] = [await join("ada"), await join("bob")]
        assert.deepEqual(shown(bob), {})
        assert.equal(await ada.track({x: 1}), "ok")
        assert.equal(await bob.track({y: 1}), "ok")
        for (const x of [2, 3]) assert.equal(await ada.track({x}), "ok")
        const expected = {ada: [{x: 3}], bob: [{y: 1}]}
        for (const channel of [ada, bob, await join("eve")]) {
          await eventually(() => JSON.stringify(shown(channel)) === JSON.stringify(expected), `both: ${JSON.stringify(shown(channel))}`)
        }
        assert.equal(await bob.untrack(), "ok")
        await eventually(() => Object.keys(shown(ada)).join() === "ada", "the end of bob")
        await ada.unsubscribe()
        await eventually(() => Object.keys(shown(bob)).length === 0, "the end of ada")
      }))

      test("is refused and admitted in private channels", () => visit(async visit => {
        const client = visit.client(name)
        const refused = await subscribe(client.channel("team:1", {config: {private: true}})).next()
        assert.equal(refused[0], "CHANNEL_ERROR")
        assert.match(refused[1], /Unauthorized: You do not have permissions to read from this Channel topic: team:1/)
        const other = visit.client(name)
        await other.setAuth(user("ada"))
        const channel = other.channel("team:1", {config: {private: true, broadcast: {ack: true}}})
        await enter(channel)
        assert.equal(await channel.send({type: "broadcast", event: "e", payload: {}}), "ok")
      }))

      test("connects with an opaque key", () => visit(async visit => {
        await enter(visit.client(name, {key: PUBLISHABLE}).channel(topic("opaque")))
      }))

      test("sends before it has joined", () => visit(async visit => {
        const reader = visit.client(name).channel(topic("before"))
        const heard = broadcasts(reader, "early")
        await enter(reader)
        const sender = visit.client(name).channel(topic("before"))
        assert.equal(await sender.send({type: "broadcast", event: "early", payload: {n: 1}}), "ok")
        assert.deepEqual((await heard.next()).payload, {n: 1})
      }))

      test("is told once of changes that are not served, and stays", () => visit(async visit => {
        const channel = visit.client(name).channel(topic("changes"), {config: {broadcast: {self: true}}})
        const told = new Inbox("a system message")
        channel.on("postgres_changes", {event: "*", schema: "public"}, () => {})
        channel.on("system", {}, message => told.put(message))
        const heard = broadcasts(channel, "e")
        await enter(channel)
        const {extension, status, message} = await told.next()
        assert.deepEqual([extension, status], ["postgres_changes", "error"])
        assert.match(message, /not served here/)
        await channel.send({type: "broadcast", event: "e", payload: {}})
        await heard.next()
      }))

      test("comes back when its token has expired", () => visit(async visit => {
        let seconds = 3
        const client = visit.client(name, {accessToken: async () => user("ada", seconds)})
        await client.setAuth()
        const channel = client.channel("team:expiry", {config: {private: true}})
        const told = await enter(channel)
        seconds = 3600
        const [status, message] = await told.next()
        assert.equal(status, "CHANNEL_ERROR", message)
        await subscribed(told)
      }))

      test("joins again while it leaves", () => visit(async visit => {
        const client = visit.client(name)
        await enter(client.channel(topic("stays too")))
        const config = {broadcast: {self: true, ack: true}}
        const first = client.channel(topic("both"), {config})
        await enter(first)
        const left = first.unsubscribe()
        const second = client.channel(topic("both"), {config})
        const heard = broadcasts(second, "e")
        await subscribed(subscribe(second))
        assert.equal(await left, "ok")
        assert.equal(await second.send({type: "broadcast", event: "e", payload: {n: 1}}), "ok")
        assert.deepEqual((await heard.next()).payload, {n: 1})
      }))

      test("shows two tabs under one key, whatever they do first", () => visit(async visit => {
        const open = async tab => {
          const channel = visit.client(name).channel(topic("tabs"), {config: {presence: {key: "ada", enabled: true}}})
          channel.on("presence", {event: "sync"}, () => {})
          await enter(channel)
          assert.equal(await channel.untrack(), "ok")
          assert.equal(await channel.track({tab}), "ok")
          return channel
        }
        const [one, two] = [await open(1), await open(2)]
        const shows = async (channel, tabs) => {
          const shown = () => JSON.stringify((channel.presenceState().ada ?? []).map(({tab}) => tab).sort())
          await eventually(() => shown() === JSON.stringify(tabs), `${tabs}: ${shown()}`)
        }
        for (const channel of [one, two]) await shows(channel, [1, 2])
        await one.untrack()
        await shows(two, [2])
        await one.track({tab: 3})
        await shows(two, [2, 3])
        await two.unsubscribe()
        await shows(one, [3])
      }))

      test("is told why a new token ends its channel", () => visit(async visit => {
        const client = visit.client(name)
        const told = subscribe(client.channel(`team:${topic("denied")}`, {config: {private: true}}))
        // The join may leave before this, and is refused then.
        client.setAuth(user("ada"))
        await subscribed(told)
        const channel = client.getChannels()[0]
        const ends = new Inbox("a system message")
        channel.on("system", {}, message => ends.put(message))
        await client.setAuth(token("anon", "nobody"))
        assert.match((await ends.next()).message, /You do not have permissions to read from this Channel topic: team:denied/)
        assert.equal((await told.next())[0], "CLOSED")
      }))

      test("leaves and joins again", () => visit(async visit => {
        const client = visit.client(name)
        // Without a channel old versions disconnect, and time out in the next one.
        await enter(client.channel(topic("stays")))
        for (let round = 0; round < 3; round++) {
          const channel = client.channel(topic("again"))
          await enter(channel)
          assert.equal(await client.removeChannel(channel), "ok")
        }
      }))
    })
  }

  test("realtime-js 2.119 sends bytes and gets what was kept", () => visit(async visit => {
    const client = visit.client("realtime-js 2.119")
    await client.setAuth(user("ada"))
    const config = {private: true, broadcast: {ack: true, self: true}}
    const channel = client.channel("team:kept", {config})
    const heard = broadcasts(channel, "e")
    await enter(channel)
    assert.equal(await channel.send({type: "broadcast", event: "e", payload: Uint8Array.from([0, 255]).buffer}), "ok")
    assert.deepEqual([...new Uint8Array((await heard.next()).payload)], [0, 255])
    for (const n of [1, 2, 3]) await channel.send({type: "broadcast", event: "e", payload: {n}})
    const reader = visit.client("realtime-js 2.119")
    await reader.setAuth(user("bob"))
    const replay = {since: Date.now() - 60_000, limit: 2}
    const late = reader.channel("team:kept", {config: {private: true, broadcast: {replay}}})
    const kept = broadcasts(late, "e")
    await enter(late)
    for (const n of [2, 3]) {
      const {payload, meta} = await kept.next()
      assert.deepEqual([payload, meta.replayed, typeof meta.id], [{n}, true, "string"])
    }
  }))

  test("realtime-js 2.119 sends over HTTP, one and bytes", () => visit(async visit => {
    const reader = visit.client("realtime-js 2.119").channel("http")
    const heard = broadcasts(reader, "e")
    await enter(reader)
    const sender = visit.client("realtime-js 2.119").channel("http")
    assert.deepEqual(await sender.httpSend("e", {n: 1}), {success: true})
    assert.deepEqual((await heard.next()).payload, {n: 1})
    assert.deepEqual(await sender.httpSend("e", Uint8Array.from([7])), {success: true})
    assert.deepEqual([...new Uint8Array((await heard.next()).payload)], [7])
  }))
})

describe("a server that starts again", () => {
  for (const name of NAMES) {
    test(`${name} is back in its channels`, async () => {
      const server = await startSupabase()
      const visit = new Visit(server)
      try {
        const channel = visit.client(name).channel("restart", {config: {broadcast: {self: true}}})
        const heard = broadcasts(channel, "e")
        const told = await enter(channel)
        await server.stop()
        await server.start()
        await subscribed(told)
        await sleep(50)
        await channel.send({type: "broadcast", event: "e", payload: {}})
        await within(heard.next(), "its own message")
      } finally {
        await visit.end()
        await server.remove()
      }
    })
  }
})
