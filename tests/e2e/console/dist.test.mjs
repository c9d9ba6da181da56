// The built pages and the packed client in the repository are what their sources build, and the pages need no other host.

import assert from "node:assert/strict"
import {execFileSync} from "node:child_process"
import {mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync} from "node:fs"
import {tmpdir} from "node:os"
import {dirname, join} from "node:path"
import {test} from "node:test"
import {fileURLToPath} from "node:url"

const CONSOLE = join(dirname(fileURLToPath(import.meta.url)), "../../../console")
const DIST = join(CONSOLE, "dist")
const CLIENT = join(CONSOLE, "../clients/javascript")

test("dist is what the sources build", () => {
  const fresh = mkdtempSync(join(tmpdir(), "fanfare-console-"))
  try {
    execFileSync(process.execPath, [join(CONSOLE, "build.mjs"), fresh])
    assert.deepEqual(filesIn(DIST), filesIn(fresh))
    for (const file of filesIn(fresh)) {
      const same = readFileSync(join(DIST, file)).equals(readFileSync(join(fresh, file)))
      assert.ok(same, `console/dist/${file} is not what the sources build: run "npm run build" in console/ and commit it`)
    }
  } finally {
    rmSync(fresh, {recursive: true})
  }
})

test("the packed fanfare-resume is what npm packs", () => {
  const folder = mkdtempSync(join(tmpdir(), "fanfare-resume-"))
  try {
    const packed = execFileSync("npm", ["pack", "--silent", "--pack-destination", folder], {cwd: CLIENT, encoding: "utf8"}).trim()
    const unpack = (archive, name) => {
      mkdirSync(join(folder, name))
      execFileSync("tar", ["xzf", archive, "-C", join(folder, name)])
      return join(folder, name)
    }
    const fresh = unpack(join(folder, packed), "fresh")
    const known = unpack(join(CLIENT, "dist/fanfare-resume.tgz"), "known")
    assert.deepEqual(filesIn(known), filesIn(fresh))
    for (const file of filesIn(fresh)) {
      const same = readFileSync(join(known, file)).equals(readFileSync(join(fresh, file)))
      assert.ok(same, `${file} is not what clients/javascript has: run "npm run build" there and commit dist/`)
    }
  } finally {
    rmSync(folder, {recursive: true})
  }
})

test("the pages refer to no other host", () => {
  for (const file of filesIn(DIST).filter(name => /\.(html|css)$/.test(name))) {
    const references = readFileSync(join(DIST, file), "utf8").match(/(?:https?:)?\/\/[a-z0-9.-]+/gi) ?? []
    // The name of the SVG vocabulary is an address that nobody asks.
    assert.deepEqual(references.filter(reference => reference !== "http://www.w3.org"), [], file)
  }
})

function filesIn(folder) {
  return readdirSync(folder, {recursive: true}).filter(name => statSync(join(folder, name)).isFile()).sort()
}
