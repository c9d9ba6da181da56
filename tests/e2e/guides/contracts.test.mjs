// What docs/contracts.md tells: the types that are made of schemas fit the stock client, and a mistake does not compile.

import assert from "node:assert/strict"
import {spawnSync} from "node:child_process"
import {mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync} from "node:fs"
import {tmpdir} from "node:os"
import {join} from "node:path"
import {after, before, describe, test} from "node:test"
import {fileURLToPath} from "node:url"
import {file} from "../support/guide.mjs"

const MODULES = fileURLToPath(new URL("../node_modules", import.meta.url))
const OPTIONS = ["--noEmit", "--strict", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler", "--skipLibCheck", "false"]

describe("types that are made of a contract", () => {
  let folder
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "fanfare-contract-"))
    symlinkSync(MODULES, join(folder, "node_modules"))
    mkdirSync(join(folder, "schemas"))
    for (const name of ["schemas/new_msg.json", "schemas/mood.json", "contracts.toml"]) {
      writeFileSync(join(folder, name), file("contracts.md", name))
    }
    const args = ["contract", "--config", "contracts.toml", "--format", "typescript", "--out", "types"]
    const written = spawnSync(process.env.FANFARE_BIN, args, {cwd: folder, encoding: "utf8"})
    assert.equal(written.status, 0, written.stderr)
  })
  after(() => rmSync(folder, {recursive: true}))

  const code = file("contracts.md", "room.ts")
  const compile = (name, code) => {
    writeFileSync(join(folder, name), code)
    const compiler = join(MODULES, "typescript/bin/tsc")
    return spawnSync(process.execPath, [compiler, ...OPTIONS, name], {cwd: folder, encoding: "utf8"})
  }

  test("the guide's program compiles, strictly", () => {
    const {status, stdout} = compile("room.ts", code)
    assert.equal(status, 0, stdout)
  })

  test("mistakes do not", () => {
    const mistakes = [
      ["\"hello\", mood", "5, mood", /Type 'number' is not assignable to type 'string'/],
      ["\"happy\"", "\"angry\"", /"angry"/],
      ["{body: \"hello\", mood: \"happy\"}", "{bdy: \"hello\"}", /bdy/],
      ["push(\"new_msg\"", "push(\"new_mesage\"", /new_mesage/],
      ["on(\"new_msg\"", "on(\"new_mesage\"", /new_mesage/],
      ["msg.body.toUpperCase()", "msg.mood.toUpperCase()", /possibly 'undefined'/],
      ["\"room:1\"", "\"rooms:1\"", /rooms:1/],
    ]
    // All at once, since the compiler takes longer to start than to work.
    const names = mistakes.map(([from, to], i) => {
      assert.ok(code.includes(from), from)
      writeFileSync(join(folder, `mistake${i}.ts`), code.replace(from, to))
      return `mistake${i}.ts`
    })
    const compiler = join(MODULES, "typescript/bin/tsc")
    const {stdout} = spawnSync(process.execPath, [compiler, ...OPTIONS, ...names], {cwd: folder, encoding: "utf8"})
    for (const [i, [, , wanted]] of mistakes.entries()) {
      const of = stdout.split("\n").filter(line => line.startsWith(`mistake${i}.ts`)).join("\n")
      assert.match(of, wanted, `${mistakes[i][1]}: ${stdout}`)
    }
  })
})
