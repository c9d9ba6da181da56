// Stock clients that resume and do not keep up: what gives way by the policy of a topic is told, and nothing else is
// missing. Where nothing may give way, as much as there is comes as slowly as they take it.

import assert from "node:assert/strict"
import {checks, checksWithOwnServer} from "../support/check.mjs"
import {eventually} from "../support/deadline.mjs"
import {startServe} from "../support/process.mjs"
import {closed, cut, expectNumbers, join, publishMany, startWithHistory} from "../support/resume.mjs"

/** An outbox fills once the buffers of kernel and proxy have, which takes some megabytes. */
const FILLER = {filler: "x".repeat(50_000)}
const PORTION = 20
const DROPPED_MIN = 30
const LONG_ABSENCE = 20_000

/** Each number is a value of its own for `latest`, except in topics `values:*`. */
const TOPICS = {drop_oldest: "drop_oldest", latest: 'latest"\nlatest_key = "n', resync: "resync", values: "latest"}

const CONFIG = Object.entries(TOPICS).map(([prefix, slow]) => `
[[channel]]
topic = "${prefix}:*"
join = "open"
history = { messages = 10000, bytes = "100MB" }
slow = "${slow}"
`).join("") + `
[[endpoint]]
[limits]
outbox_frames_max = 10
`

/** Publishes numbers behind those with these positions until enough were dropped, and adds theirs. */
async function publishUntilDropped(server, topic, reason, positions) {
  while (await server.counted("drops", reason) < DROPPED_MIN) {
    const first = positions.length + 1
    positions.push(...(await publishMany(server, topic, first, first + PORTION - 1, FILLER)))
  }
}

/** A member for which messages were dropped while it stalled. `story` is what has come: numbers, and gaps. */
async function stalled(visit, topic, reason) {
  const story = []
  const proxy = await visit.through({})
  const {channel, resuming} = await join(visit, topic, {onGap: gap => story.push(gap)})
  channel.on("n", ({n}) => story.push(n))
  const positions = await publishMany(visit.server, topic, 1, 1)
  await eventually(() => story.length > 0, "the first number")
  proxy.stall()
  await publishUntilDropped(visit.server, topic, reason, positions)
  proxy.mend()
  return {channel, proxy, resuming, story, positions}
}

/** The number up to which a story tells of all that is behind `last`, in order. Its gaps have this reason. */
function end(story, last, positions, reason) {
  for (const come of story) {
    const {dropped} = come
    const gap = () => ({reason, dropped, from: positions[last - 1], to: positions[last + dropped - 1]})
    assert.deepEqual(come, dropped ? gap() : last + 1)
    last += dropped ?? 1
  }
  return last
}

checksWithOwnServer("slow readers", check => {
  for (const slow of ["drop_oldest", "latest", "resync"]) {
    for (const moreFirst of [false, true]) {
      const what = moreFirst ? "followed by more" : "followed by a cut"
      check(`${slow} makes a gap, which is told, ${what}`, {}, async visit => {
        const topic = visit.topic(slow)
        const {channel, proxy, resuming, story, positions} = await stalled(visit, topic, slow)
        const publishMore = async () => {
          const next = positions.length + 1
          positions.push(...(await publishMany(visit.server, topic, next, next + 2)))
        }
        const told = async (story, last) => {
          await eventually(() => end(story, last, positions, slow) === positions.length, "all to be told")
        }
        await told(story, 0)
        if (moreFirst) {
          await publishMore()
          await told(story, 0)
        }
        assert.ok(story.some(({dropped}) => dropped > 0), "no gap")

        // Whoever is lost right behind a gap has not seen what comes then, and gets all from before it.
        const before = story.splice(0)
        const last = before.at(-1).from ? end(before.slice(0, -1), 0, positions, slow) : positions.length
        assert.equal(resuming.position, positions[last - 1])
        await cut(proxy, channel)
        await publishMore()
        proxy.mend()
        await told(story, last)
        assert.deepEqual(story.filter(({dropped}) => dropped), [])
        assert.equal(resuming.position, positions.at(-1))
      })
    }
  }

  check("a value that a newer one has replaced is no gap", {}, async visit => {
    const topic = visit.topic("values")
    const {resuming, story, positions} = await stalled(visit, topic, "latest")
    await eventually(() => story.at(-1) === positions.length, "the newest value")
    assert.ok(story.length < positions.length)
    assert.deepEqual(story, story.filter(Number.isInteger).sort((a, b) => a - b))
    assert.equal(resuming.position, positions.at(-1))
  })
}, () => startServe(CONFIG))

checks("long absences", check => {
  check("all that was missed comes through a slow network, and then what is live", {}, async visit => {
    const topic = visit.topic()
    const {channel, resuming: {position}} = await join(visit, topic)
    await closed(channel.socket)
    await publishMany(visit.server, topic, 1, LONG_ABSENCE)
    await visit.through({latencyMs: 20})
    const {response, box, gaps} = await join(visit, topic, {from: position})
    await publishMany(visit.server, topic, LONG_ABSENCE + 1, LONG_ABSENCE + 10)
    await expectNumbers(assert, box, 1, LONG_ABSENCE + 10)
    assert.deepEqual([response.resume, gaps, box.rest()], [{position, recovered: true}, [], []])
  })
}, startWithHistory)
