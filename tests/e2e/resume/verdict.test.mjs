// The checker's verdict on made-up histories: it has to find what it is there for.

import assert from "node:assert/strict"
import {test} from "node:test"
import {historyOf, verdict, verdictOnOrder} from "./verdict.mjs"

/** `a-1@x:1` is a message, `a-1@x:1?` one of which nobody knows whether it was kept. */
const messages = text => text.split(" ").filter(Boolean).map(word => {
  const [, id, position, unsure] = word.match(/^(.*)@(.*?)(\?)?$/)
  return unsure ? {id, position, unsure: true} : {id, position}
})

/**
 * The same for what a client sees, with `joined@x:0`, `gap@x:1>y:0` after a restart, and `drop_oldest*2@x:1>x:3` by a
 * policy.
 */
const seen = text => messages(text).map(({id, position}) => {
  if (id === "joined") return {joined: position}
  const [from, to] = position.split(">")
  if (!to) return {position, id}
  const [reason, dropped] = id === "gap" ? ["not_recovered"] : id.split("*")
  return {gap: {reason, from, to, ...(dropped && {dropped: Number(dropped)})}}
})

const ALL = messages("a-1@x:1 b-1@x:2 a-2@x:3 a-3@y:1 b-2@y:2")

for (const [what, client, restarts, faults] of [
  ["all", "joined@x:0 a-1@x:1 b-1@x:2 a-2@x:3 gap@x:3>y:0 a-3@y:1 b-2@y:2", 1, []],
  ["all but what was before it came", "joined@x:2 a-2@x:3 gap@x:3>y:0 a-3@y:1 b-2@y:2", 1, []],
  ["nothing but that it misses all", "joined@x:0 gap@x:0>y:2", 1, []],
  ["what comes behind a gap", "joined@x:0 a-1@x:1 gap@x:1>y:1 b-2@y:2", 1, []],
  ["some of what a gap spans", "joined@x:0 a-1@x:1 gap@x:1>y:1 a-3@y:1 b-2@y:2", 1, []],

  ["what a policy has left", "joined@x:0 a-1@x:1 drop_oldest*2@x:1>x:3 gap@x:1>y:0 a-3@y:1 b-2@y:2", 1, []],
  ["gaps with messages between", "joined@x:0 drop_oldest*1@x:0>x:1 b-1@x:2 drop_oldest*1@x:2>x:3 gap@x:3>y:2", 1, []],
  ["after all what was dropped", "joined@y:0 drop_oldest*2@y:0>y:2 a-3@y:1 b-2@y:2", 0, []],

  ["one lost", "joined@x:0 a-1@x:1 a-2@x:3 gap@x:3>y:0 a-3@y:1 b-2@y:2", 1, ["lost: b-1 at x:2, before a-2"]],
  ["the first lost", "joined@x:0 b-1@x:2 a-2@x:3 gap@x:3>y:0 a-3@y:1 b-2@y:2", 1, ["lost: a-1 at x:1, before b-1"]],
  ["the last lost", "joined@y:0 a-3@y:1", 0, ["lost: b-2 at y:2, before the end"]],
  ["one doubled", "joined@y:0 a-3@y:1 a-3@y:1 b-2@y:2", 0, ["doubled: a-3 at y:1"]],
  ["one doubled later", "joined@y:0 a-3@y:1 b-2@y:2 a-3@y:1", 0, ["doubled: a-3 at y:1"]],
  ["two swapped", "joined@y:0 b-2@y:2 a-3@y:1", 0, [
    "lost: a-3 at y:1, before b-2",
    "late: a-3 at y:1 came behind later ones",
  ]],
  ["a silent gap", "joined@x:2 a-2@x:3 b-2@y:2", 0, ["lost: a-3 at y:1, before b-2"]],
  ["one lost behind a gap", "joined@x:0 gap@x:0>x:2 gap@x:2>y:0 b-2@y:2", 2, ["lost: a-3 at y:1, before b-2"]],
  ["a gap that spans too little", "joined@x:0 gap@x:0>x:1 a-2@x:3 a-3@y:1 b-2@y:2", 1, [
    "lost: b-1 at x:2, before a-2",
  ]],
  ["a gap without cause", "joined@y:0 gap@y:0>y:1 b-2@y:2", 0, ["1 gaps were told, and there was cause for 0"]],
  ["one lost before a gap", "joined@x:0 drop_oldest*2@x:1>x:3 gap@x:3>y:2", 1, ["lost: a-1 at x:1, before a gap"]],
  ["one lost behind a policy's gap", "joined@x:0 drop_oldest*1@x:0>x:1 a-2@x:3 gap@x:3>y:2", 1, [
    "lost: b-1 at x:2, before a-2",
  ]],
  ["the last lost behind a policy's gap", "joined@y:0 drop_oldest*1@y:0>y:1", 0, ["lost: b-2 at y:2, before the end"]],
  ["one doubled behind a policy's gap", "joined@y:0 a-3@y:1 drop_oldest*1@y:1>y:2 a-3@y:1", 0, ["doubled: a-3 at y:1"]],
  ["a gap that has not as many", "joined@y:0 drop_oldest*1@y:0>y:2", 0, ["gap: 1 behind y:0 up to y:2"]],
  ["a gap of what had come", "joined@y:0 a-3@y:1 drop_oldest*2@y:0>y:2", 0, ["gap: behind y:0, of what had come"]],
  ["a gap across a restart", "joined@x:2 drop_oldest*2@x:2>y:1 b-2@y:2", 0, ["gap: 2 behind x:2 up to y:1"]],
  ["the gap of another policy", "joined@y:0 resync*2@y:0>y:2", 0, ["gap: resync is not the policy"]],
  ["one that nobody sent", "joined@y:0 a-3@y:1 b-2@y:2 b-3@y:3", 0, ["unknown: b-3 at y:3"]],
  ["another at its position", "joined@y:0 a-9@y:1 b-2@y:2", 0, [
    "another: a-9 at y:1 instead of a-3",
    "lost: a-3 at y:1, before b-2",
  ]],
]) {
  const cause = {restarts, slow: "drop_oldest"}
  test(`a client that sees ${what}`, () => assert.deepEqual(verdict(ALL, seen(client), cause), faults))
}

test("what may not have been kept may be seen, and need not", () => {
  const answers = messages("a-1@x:1 a-2@y:1")
  const clients = [seen("joined@x:0 a-1@x:1 b-1@x:2 gap@x:2>y:0 a-2@y:1"), seen("joined@x:0 a-1@x:1 a-2@y:1")]
  const history = historyOf(answers, new Set(["b-1"]), clients)
  assert.deepEqual(history, messages("a-1@x:1 b-1@x:2? a-2@y:1"))
  assert.deepEqual(clients.map(client => verdict(history, client, {restarts: 1})), [[], []])
  // Whoever was answered cannot have been in doubt.
  assert.deepEqual(historyOf(answers, new Set(), clients), answers)
})

for (const [what, text, faults] of [
  ["in order", "a-1@x:1 b-1@x:2 a-2@x:3 b-2@x:4", []],
  ["repeated for another server", "a-1@x:1 a-2@x:2? a-3@x:3? a-2@y:1 a-3@y:2", []],
  ["repeated though it was answered", "a-1@x:1 a-1@y:1", ["swapped: a-1 at y:1 behind a-1"]],
  ["repeated in another order", "a-1@x:1? a-2@x:2? a-2@y:1 a-1@y:2", ["swapped: a-1 at y:2 behind a-2"]],
  ["swapped", "a-2@x:1 a-1@x:2", ["swapped: a-1 at x:2 behind a-2"]],
  ["kept twice", "a-1@x:1 b-1@x:2 a-1@x:3", ["swapped: a-1 at x:3 behind a-1"]],
]) {
  test(`a history ${what}`, () => assert.deepEqual(verdictOnOrder(messages(text)), faults))
}
