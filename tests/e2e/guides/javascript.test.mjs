// What docs/javascript.md tells: its TypeScript compiles, its Vite passes the socket on, and Node without a WebSocket polls.

import assert from "node:assert/strict"
import {spawn, spawnSync} from "node:child_process"
import {mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync} from "node:fs"
import {tmpdir} from "node:os"
import {join} from "node:path"
import {after, before, describe, test} from "node:test"
import {fileURLToPath} from "node:url"
import {LongPoll, Socket} from "phoenix"
import WebSocket from "ws"
import {answer, happens} from "../support/clients.mjs"
import {Inbox} from "../support/deadline.mjs"
import {file} from "../support/guide.mjs"
import {linesOf} from "../support/lines.mjs"
import {startDev} from "../support/process.mjs"

const COLOURS = /\u001b\[\d+m/g
const MODULES = fileURLToPath(new URL("../node_modules", import.meta.url))

describe("the guide to JavaScript", () => {
  let folder, server
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "fanfare-guide-"))
    symlinkSync(MODULES, join(folder, "node_modules"))
    mkdirSync(join(folder, "src"))
    server = await startDev(folder)
  })
  after(async () => {
    await server.stop("SIGKILL")
    rmSync(folder, {recursive: true})
  })

  test("its TypeScript compiles, strictly, and a mistake in it does not", () => {
    const code = file("javascript.md", "lobby.ts")
    const compile = code => {
      writeFileSync(join(folder, "src/lobby.ts"), code)
      const options = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck", "false"]
      const compiler = join(MODULES, "typescript/bin/tsc")
      return spawnSync(process.execPath, [compiler, ...options, "src/lobby.ts"], {cwd: folder, encoding: "utf8"})
    }
    const good = compile(code)
    assert.equal(good.status, 0, good.stdout)
    const bad = compile(code.replace("{onGap: reload}", "{onGap: 1}"))
    assert.match(bad.stdout, /onGap|not assignable/)
  })

  test("Vite passes the socket and the stream on, for the origins that an endpoint has by default", async () => {
    const config = file("javascript.md", "vite.config.js").replaceAll("http://127.0.0.1:4000", server.http)
    writeFileSync(join(folder, "vite.config.mjs"), config)
    writeFileSync(join(folder, "index.html"), "<!doctype html>")
    const options = ["--host", "127.0.0.1", "--port", "0", "--strictPort"]
    const vite = spawn(process.execPath, [join(MODULES, "vite/bin/vite.js"), ...options], {cwd: folder})
    try {
      const lines = linesOf(vite.stdout)
      let address
      while (!address) address = (await lines.next()).value.replace(COLOURS, "").match(/http:\/\/127\.0\.0\.1:(\d+)/)?.[0]
      const origin = {headers: {origin: address}}
      class FromThePage extends WebSocket {
        constructor(url, protocols) {
          super(url, protocols, origin)
        }
      }
      const socket = new Socket(`${address.replace("http", "ws")}/socket`, {transport: FromThePage})
      socket.connect()
      const lobby = socket.channel("room:lobby")
      assert.equal((await answer(lobby.join())).status, "ok")
      const stream = await fetch(`${address}/events/room:lobby`, origin)
      assert.equal(stream.status, 200)
      await stream.body.cancel()
      socket.disconnect()
    } finally {
      vite.kill("SIGKILL")
    }
  })

  test("without a WebSocket the client polls, and says nothing of it", async () => {
    const known = globalThis.WebSocket
    delete globalThis.WebSocket
    try {
      const said = new Inbox("a word")
      const socket = new Socket(`${server.ws}/socket`, {logger: (kind, what) => kind === "error" && said.put(what)})
      assert.equal(socket.transport, LongPoll)
      const opened = happens(socket, "open")
      socket.connect()
      await opened
      assert.deepEqual(said.rest(), [])
      socket.disconnect()
    } finally {
      if (known) globalThis.WebSocket = known
    }
  })
})
