// postgres_changes with Supabase's stock clients against the real binary.

import assert from "node:assert/strict"
import {after, before, describe, test} from "node:test"
import {Inbox} from "../support/deadline.mjs"
import {CLIENTS, Visit, enter, startWithChanges, user} from "../support/supabase.mjs"

const COLUMNS = [{name: "id", type: "int8"}, {name: "owner", type: "text"}, {name: "at", type: "timestamp"}]

describe("changes of tables", {concurrency: 3}, () => {
  let server
  before(async () => {
    server = await startWithChanges()
  })
  after(() => server.remove())

  for (const name of Object.keys(CLIENTS)) {
    test(`${name} gets the rows that its user may see and its filters want`, async () => {
      const visit = new Visit(server)
      try {
        const owner = `ada ${name}`
        const client = visit.client(name, {accessToken: async () => user(owner)})
        await client.setAuth()
        const channel = client.channel("db")
        const [all, large] = [new Inbox("any change"), new Inbox("an update")]
        channel.on("postgres_changes", {event: "*", schema: "public"}, change => all.put(change))
        const filter = {event: "UPDATE", schema: "public", table: "orders", filter: "id=gt.5"}
        channel.on("postgres_changes", filter, change => large.put(change))
        await enter(channel)
        const change = (type, record, old_record) => server.publish("postgres_changes:public:orders", type, {
          schema: "public", table: "orders", type, commit_timestamp: "2026-08-21T10:00:00.000Z", columns: COLUMNS, errors: null,
          ...(record && {record}), ...(old_record && {old_record}),
        })
        const row = (id, of = owner) => ({id, owner: of, at: "2026-08-21 10:00:00+00"})
        await change("INSERT", row(1, "somebody else"))
        await change("INSERT", row(2))
        const {eventType, schema, table, new: record, old} = await all.next()
        assert.deepEqual({eventType, schema, table, record, old}, {
          eventType: "INSERT", schema: "public", table: "orders",
          record: {...row(2), at: "2026-08-21T10:00:00+00"}, old: {},
        })
        await change("UPDATE", row(3), row(3))
        await change("UPDATE", row(9), row(9, "somebody else"))
        await change("DELETE", undefined, row(9))
        assert.equal((await all.next()).new.id, 3)
        const last = await all.next()
        assert.deepEqual([last.new.id, last.old], [9, {}])
        assert.deepEqual((await large.next()).new.id, 9)
        const deleted = await all.next()
        assert.deepEqual([deleted.eventType, deleted.new, deleted.old.id], ["DELETE", {}, 9])
      } finally {
        await visit.end()
      }
    })
  }
})
