// The npm package as it would be published.

import assert from "node:assert/strict"
import {execFileSync} from "node:child_process"
import {readFileSync} from "node:fs"
import {test} from "node:test"
import {fileURLToPath} from "node:url"
import * as fanfareResume from "fanfare-resume"

const ROOT = new URL("../../../", import.meta.url)
const FOLDER = new URL("clients/javascript/", ROOT)
const MANIFEST = JSON.parse(readFileSync(new URL("package.json", FOLDER), "utf8"))
const LICENCES = ["LICENSE-APACHE", "LICENSE-MIT"]

test("it has what it names, and nothing else", () => {
  const packed = execFileSync("npm", ["pack", "--dry-run", "--json"], {cwd: fileURLToPath(FOLDER), encoding: "utf8"})
  const [{files, name, version}] = JSON.parse(packed)
  const expected = [...LICENCES, "README.md", "package.json", "resume.d.ts", "resume.js"]
  assert.deepEqual(files.map(({path}) => path).sort(), expected)
  const {default: code, types} = MANIFEST.exports["."]
  for (const path of [code, types, MANIFEST.types]) assert.ok(files.some(file => `./${file.path}` === path), path)
  assert.equal(MANIFEST.dependencies, undefined)
  // One version for everything in the repository.
  const workspace = readFileSync(new URL("Cargo.toml", ROOT), "utf8").match(/^version = "(.*)"$/m)[1]
  assert.deepEqual([name, version], ["fanfare-resume", workspace])
})

test("its licences are those of the repository", () => {
  for (const licence of LICENCES) {
    assert.equal(readFileSync(new URL(licence, FOLDER), "utf8"), readFileSync(new URL(licence, ROOT), "utf8"), licence)
  }
})

test("its types declare what it exports", () => {
  const types = readFileSync(new URL(MANIFEST.types, FOLDER), "utf8")
  const declared = [...types.matchAll(/^export (?:function|const|class) (\w+)/gm)].map(([, name]) => name)
  assert.deepEqual(declared.sort(), Object.keys(fanfareResume).sort())
})
