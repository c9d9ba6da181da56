// The proxies of docs/moving: the clients of both sides on one host, each reaching its own.

import assert from "node:assert/strict"
import {mkdtempSync, rmSync} from "node:fs"
import {tmpdir} from "node:os"
import {join} from "node:path"
import {after, before, describe, test} from "node:test"
import {Socket} from "phoenix"
import WebSocket, {WebSocketServer} from "ws"
import {answer, inbox} from "../support/clients.mjs"
import {within} from "../support/deadline.mjs"
import {file} from "../support/guide.mjs"
import {isThere, startNginx} from "../support/nginx.mjs"
import {freePort, startOracle, startServe} from "../support/process.mjs"

describe("the guides to moving", {skip: !isThere("nginx") && "nginx is not installed"}, () => {
  let folder
  before(() => (folder = mkdtempSync(join(tmpdir(), "fanfare-moving-"))))
  after(() => rmSync(folder, {recursive: true}))

  test("Phoenix: /socket goes to Fanfare and all else to the application", async () => {
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

  test("a hub: the domains that have moved go to Fanfare", async () => {
    const config = '[[endpoint]]\npath = "/ws"\nprotocol = "hub"\nauth = "none"\n'
    await beside("hub", config, ["127.0.0.1:3000", "127.0.0.1:3001"], async port => {
      const publisher = new WebSocket(`ws://localhost:${port}/ws/pub/KEY/example.com/news`)
      await opened(publisher)
      const subscriber = new WebSocket(`ws://localhost:${port}/ws/sub/example.com/news`)
      await opened(subscriber)
      publisher.send("as it came")
      assert.equal(await said(subscriber), "as it came")
      for (const path of ["/ws/sub/elsewhere.net/news", "/ws/pub/KEY/elsewhere.net/news"]) {
        assert.equal(await said(new WebSocket(`ws://localhost:${port}${path}`)), `the old server, ${path}`)
      }
    })
  })

  test("a bridge: one client in ten by its address, and always the same", async () => {
    const config = '[[endpoint]]\npath = "/websocket"\nprotocol = "bullet"\nauth = "none"\n'
    await beside("bridge", config, ["127.0.0.1:8008", "127.0.0.1:8009"], async port => {
      const sideOf = async client => {
        const socket = new WebSocket(`ws://127.0.0.1:${port}/websocket?key`, {localAddress: `127.0.1.${client}`})
        socket.on("open", () => socket.send("ping"))
        const answer = await said(socket)
        socket.close()
        return answer
      }
      const ask = () => Promise.all(Array.from({length: 100}, (_, client) => sideOf(client + 1)))
      const sides = await ask()
      assert.deepEqual(new Set(sides), new Set(["heartbeat message", "the old server, /websocket?key"]))
      const moved = sides.filter(answer => answer === "heartbeat message").length
      assert.ok(moved >= 1 && moved <= 30, `${moved} of 100`)
      assert.deepEqual(await ask(), sides)
    })
  })

  test("rooms: clients of the new path go to Fanfare", async () => {
    await beside("rooms", file("moving/rooms.md", "rooms.toml"), ["127.0.0.1:4545"], async port => {
      const client = new WebSocket(`ws://localhost:${port}/v2`)
      await opened(client)
      client.send(JSON.stringify({join: "r"}))
      client.send(JSON.stringify({say: "over 9000!", to: "r"}))
      assert.match(await said(client), /over 9000!/)
    })
  })

  /** Fanfare beside an old server, which says what it was asked for, behind the proxy of a guide, whose addresses are theirs in this order. */
  async function beside(page, config, addresses, use) {
    const old = new WebSocketServer({host: "127.0.0.1", port: 0})
    old.on("connection", (socket, {url}) => socket.send(`the old server, ${url}`))
    const fanfare = await startServe(config.replace(/^(listen|\[admin\]).*$/gm, ""))
    const port = await freePort()
    const ports = [fanfare.port, old.address().port]
    let servers = file(`moving/${page}.md`, "both.conf").replace("listen 80", `listen 127.0.0.1:${port}`)
    addresses.forEach((address, index) => (servers = servers.replace(address, `127.0.0.1:${ports[index]}`)))
    if (!servers.includes("server {")) servers = `server { listen 127.0.0.1:${port}; ${servers} }`
    const nginx = await startNginx(folder, port, servers)
    try {
      await use(port)
    } finally {
      nginx.stop()
      for (const client of old.clients) client.terminate()
      old.close()
      await fanfare.remove()
    }
  }
})

function opened(socket) {
  const open = new Promise((resolve, reject) => socket.on("open", resolve).on("error", reject))
  return within(open, `a connection to ${socket.url}`)
}

function said(socket) {
  const message = new Promise((resolve, reject) => socket.once("message", data => resolve(String(data))).on("error", reject))
  return within(message, `a message of ${socket.url}`)
}
