// The proxy of docs/moving/phoenix.md: clients of both sides on one host, each by its path.

import assert from "node:assert/strict"
import {mkdtempSync, rmSync} from "node:fs"
import {tmpdir} from "node:os"
import {join} from "node:path"
import {after, before, describe, test} from "node:test"
import {Socket} from "phoenix"
import WebSocket from "ws"
import {answer, inbox} from "../support/clients.mjs"
import {file} from "../support/guide.mjs"
import {isThere, startNginx} from "../support/nginx.mjs"
import {freePort, startOracle, startServe} from "../support/process.mjs"

describe("the guide to moving from Phoenix", {skip: !isThere("nginx") && "nginx is not installed"}, () => {
  let folder
  before(() => (folder = mkdtempSync(join(tmpdir(), "fanfare-moving-"))))
  after(() => rmSync(folder, {recursive: true}))

  test("nginx sends /socket to Fanfare and all else to the application", async () => {
    // It behaves as the recorded Phoenix application did.
    const [application, fanfare] = [await startOracle(), await startServe('[[endpoint]]\npath = "/socket"\n[[channel]]\npreset = "lobby"\n')]
    const port = await freePort()
    const upstreams = file("moving/phoenix.md", "both.conf")
      .replace("127.0.0.1:4002", `127.0.0.1:${application.port}`)
      .replace("127.0.0.1:4000", `127.0.0.1:${fanfare.port}`)
      .replace("listen 80", `listen 127.0.0.1:${port}`)
    const nginx = await startNginx(folder, port, upstreams)
    try {
      const origin = `http://localhost:${port}`
      class FromThePage extends WebSocket {
        constructor(url, protocols) {
          super(url, protocols, {origin})
        }
      }
      const connect = path => {
        const socket = new Socket(`ws://localhost:${port}${path}`, {transport: FromThePage})
        socket.connect()
        return socket
      }
      const here = connect("/socket")
      const lobby = here.channel("room:lobby", {name: "Ada"})
      const heard = inbox(lobby, "new_msg")
      assert.equal((await answer(lobby.join())).status, "ok")
      await fanfare.publish("room:lobby", "new_msg", {body: "from Fanfare"})
      assert.deepEqual(await heard.next(), {body: "from Fanfare"})
      here.disconnect()

      const there = connect("/bench")
      assert.equal((await answer(there.channel("bench:1").join())).status, "ok")
      there.disconnect()
    } finally {
      nginx.stop()
      await application.remove()
      await fanfare.remove()
    }
  })
})
