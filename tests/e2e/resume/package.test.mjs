// The npm package as it would be published, and as every server has it.

import assert from "node:assert/strict"
import {execFileSync} from "node:child_process"
import {mkdtempSync, readFileSync, rmSync} from "node:fs"
import {tmpdir} from "node:os"
import {join} from "node:path"
import {test} from "node:test"
import {fileURLToPath} from "node:url"
import * as fanfareResume from "fanfare-resume"
import {startServe} from "../support/process.mjs"

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

test("npm installs it from a server, without a registry", async () => {
  const server = await startServe("")
  const folder = mkdtempSync(join(tmpdir(), "fanfare-install-"))
  try {
    const options = ["--no-audit", "--no-fund", "--registry", "http://127.0.0.1:1", "--legacy-peer-deps"]
    execFileSync("npm", ["install", ...options, `${server.http}/fanfare-resume.tgz`], {cwd: folder})
    const {version, types} = JSON.parse(readFileSync(join(folder, "node_modules/fanfare-resume/package.json"), "utf8"))
    assert.deepEqual([version, types], [MANIFEST.version, MANIFEST.types])
    const script = 'import {resume} from "fanfare-resume"; console.log(typeof resume)'
    const printed = execFileSync(process.execPath, ["--input-type=module", "-e", script], {cwd: folder, encoding: "utf8"})
    assert.equal(printed.trim(), "function")
  } finally {
    await server.remove()
    rmSync(folder, {recursive: true})
  }
})

test("a page imports it from a server", async () => {
  const server = await startServe("")
  try {
    const code = await (await fetch(`${server.http}/fanfare-resume.js`)).text()
    const {resume} = await import(`data:text/javascript,${encodeURIComponent(code)}`)
    assert.equal(typeof resume, "function")
  } finally {
    await server.remove()
  }
})
