// The checker with a few fixed seeds. A longer search, and one seed again:
//
//     CHECKER_SEEDS=1-500 CHECKER_SECONDS=20 ./run.sh resume/checker.test.mjs
//     CHECKER_SEEDS=17 CHECKER_SERVER=disk ./run.sh resume/checker.test.mjs
//
// A seed fixes what goes wrong and when, not how fast the machine is: what one seed has found may take some rounds to
// come again.

import assert from "node:assert/strict"
import {describe, test} from "node:test"
import {check, planOf} from "./checker.mjs"

const FAULTS_SHOWN_MAX = 20
const SECONDS = Number(process.env.CHECKER_SECONDS ?? 5)
const [FIRST, LAST = FIRST] = (process.env.CHECKER_SEEDS ?? "1-2").split("-").map(Number)
const SEEDS = Array.from({length: LAST - FIRST + 1}, (_, index) => FIRST + index)

test("a seed makes one plan", () => {
  assert.deepEqual(planOf(1, 30, 8), planOf(1, 30, 8))
  assert.notDeepEqual(planOf(1, 30, 8), planOf(2, 30, 8))
  const kinds = new Set(planOf(1, 30, 8).map(({what}) => what))
  assert.deepEqual([...kinds].sort(), ["burst", "cut", "move", "restart", "stall", "stall and cut"])
})

const SERVERS = [
  ["history in memory", {}],
  ["history on disk", {disk: true}],
  ["drop_oldest", {slow: "drop_oldest"}],
  ["resync, on disk", {slow: "resync", disk: true}],
].filter(([name]) => name.includes(process.env.CHECKER_SERVER ?? ""))

describe("nothing is lost, doubled, swapped or silently missing", {concurrency: 2}, () => {
  for (const [name, server] of SERVERS) {
    for (const seed of SEEDS) {
      test(`${name}, seed ${seed}`, async t => {
        const {faults, ...figures} = await check({seed, seconds: SECONDS, ...server})
        t.diagnostic(`${name}, seed ${seed}: ${JSON.stringify(figures)}`)
        const shown = faults.slice(0, FAULTS_SHOWN_MAX).join("\n")
        assert.equal(faults.length, 0, `${name}, seed ${seed}: ${faults.length} faults\n${shown}`)
        for (const [what, count] of Object.entries(figures)) {
          const mayBeNone = {gaps: !server.slow, forgotten: server.disk}[what]
          if (!mayBeNone) assert.ok(count > 0, `no ${what}: nothing was checked`)
        }
      })
    }
  }
})
