// The checker with a few fixed seeds. A longer search, and one seed again:
//
//     CHECKER_SEEDS=1-500 CHECKER_SECONDS=20 ./run.sh resume/checker.test.mjs
//     CHECKER_SEEDS=17 ./run.sh resume/checker.test.mjs
//
// A seed fixes what goes wrong and when, not how fast the machine is: what one seed has found may take some rounds to
// come again.

import assert from "node:assert/strict"
import {describe, test} from "node:test"
import {accepts} from "../support/process.mjs"
import {check, config, planOf} from "./checker.mjs"

const FAULTS_SHOWN_MAX = 20
const SECONDS = Number(process.env.CHECKER_SECONDS ?? 5)
const [FIRST, LAST = FIRST] = (process.env.CHECKER_SEEDS ?? "1-2").split("-").map(Number)
const SEEDS = Array.from({length: LAST - FIRST + 1}, (_, index) => FIRST + index)

test("a seed makes one plan", () => {
  assert.deepEqual(planOf(1, 30, 8), planOf(1, 30, 8))
  assert.notDeepEqual(planOf(1, 30, 8), planOf(2, 30, 8))
  const kinds = new Set(planOf(1, 30, 8).map(({what}) => what))
  assert.deepEqual([...kinds].sort(), ["cut", "move", "restart", "stall", "stall and cut"])
})

describe("nothing is lost, doubled, swapped or silently missing", {concurrency: 2}, () => {
  for (const disk of [false, true]) {
    const where = disk ? "on disk" : "in memory"
    const skip = !accepts(config({disk})) && `this server keeps no history ${where}`
    for (const seed of SEEDS) {
      test(`history ${where}, seed ${seed}`, {skip}, async t => {
        const {faults, ...figures} = await check({seed, seconds: SECONDS, disk})
        t.diagnostic(`seed ${seed}: ${JSON.stringify(figures)}`)
        const shown = faults.slice(0, FAULTS_SHOWN_MAX).join("\n")
        assert.equal(faults.length, 0, `seed ${seed}, history ${where}: ${faults.length} faults\n${shown}`)
        for (const [what, count] of Object.entries(figures)) {
          if (what !== "gaps") assert.ok(count > 0, `no ${what}: nothing was checked`)
        }
      })
    }
  }
})
