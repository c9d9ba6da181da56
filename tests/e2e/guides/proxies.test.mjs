// The reverse proxies of docs/deploy.md, each with the configuration of the guide: WebSocket, long-polling and streams pass.
// Only the addresses and the certificate are others. What is not installed is skipped.

import assert from "node:assert/strict"
import {execFileSync, spawnSync} from "node:child_process"
import {mkdtempSync, readFileSync, rmSync, writeFileSync} from "node:fs"
import {request} from "node:https"
import {request as requestPlain} from "node:http"
import {tmpdir} from "node:os"
import {join} from "node:path"
import {after, before, describe, test} from "node:test"
import {Socket} from "phoenix"
import WebSocket from "ws"
import {answer, inbox} from "../support/clients.mjs"
import {within} from "../support/deadline.mjs"
import {file} from "../support/guide.mjs"
import {linesOf} from "../support/lines.mjs"
import {isThere, nginxConfig, startProgram} from "../support/nginx.mjs"
import {freePort, startServe} from "../support/process.mjs"

const CONFIG = file("deploy.md", "fanfare.toml")

describe("the guide to deploying", () => {
  let folder
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "fanfare-proxies-"))
    const [key, cert] = [join(folder, "example.com.key"), join(folder, "cert.pem")]
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    execFileSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", cert, ...subject], {stdio: "ignore"})
    writeFileSync(join(folder, "example.com.pem"), readFileSync(cert) + readFileSync(key))
  })
  after(() => rmSync(folder, {recursive: true}))

  const PROXIES = {
    nginx: {
      scheme: "https",
      configure: (text, port, upstream) => nginxConfig(folder, text.replace("127.0.0.1:4000", upstream).replace("listen 443", `listen 127.0.0.1:${port}`).replaceAll("/etc/ssl", folder)),
      command: config => ["nginx", "-p", folder, "-c", config],
      name: "nginx.conf",
    },
    caddy: {
      scheme: "http",
      configure: (text, port, upstream) => `{\nadmin off\n}\n${text.replace("example.com", `http://localhost:${port}`).replace("127.0.0.1:4000", upstream)}`,
      command: config => ["caddy", "run", "--config", config, "--adapter", "caddyfile"],
      name: "Caddyfile",
    },
    haproxy: {
      scheme: "https",
      configure: (text, port, upstream) => text.replace("127.0.0.1:4000", upstream).replace("bind :443", `bind 127.0.0.1:${port}`).replaceAll("/etc/ssl", folder),
      command: config => ["haproxy", "-db", "-f", config],
      name: "haproxy.cfg",
    },
  }

  for (const [proxy, {scheme, configure, command, name}] of Object.entries(PROXIES)) {
    test(`${proxy} passes WebSockets, polls and streams on`, {skip: !isThere(proxy) && `${proxy} is not installed`}, async () => {
      const port = await freePort()
      const origin = `${scheme}://localhost:${port}`
      const server = await startServe(CONFIG.replace(/^listen.*$/m, ""))
      const path = join(folder, name)
      writeFileSync(path, configure(file("deploy.md", name), port, `127.0.0.1:${server.port}`))
      try {
        const running = await startProgram(command(path), folder, port)
        await passes(server, origin).finally(running.stop)
      } finally {
        await server.remove()
      }
    })
  }

  test("systemd accepts the unit", {skip: !isThere("systemd-analyze") && "systemd is not installed"}, () => {
    const unit = join(folder, "fanfare.service")
    writeFileSync(unit, file("deploy.md", "fanfare.service").replaceAll("/usr/bin/fanfare", process.execPath))
    const {stdout, stderr} = spawnSync("systemd-analyze", ["verify", "--man=no", unit], {encoding: "utf8"})
    const complaints = (stdout + stderr).split("\n").filter(line => line.includes("fanfare.service"))
    assert.deepEqual(complaints, [])
  })

  /** A page of this origin: WebSocket, long-polling, and a stream whose events are not held back. */
  async function passes(server, origin) {
    class FromThePage extends WebSocket {
      constructor(url, protocols) {
        super(url, protocols, {origin, rejectUnauthorized: false})
      }
    }
    const socket = new Socket(`${origin.replace("http", "ws")}/socket`, {transport: FromThePage})
    socket.connect()
    const room = socket.channel("room:7")
    const heard = inbox(room, "new_msg")
    assert.equal((await answer(room.join())).status, "ok")
    assert.equal((await answer(room.push("new_msg", {body: "hello"}))).status, "ok")
    assert.deepEqual(await heard.next(), {body: "hello"})

    const stream = await get(`${origin}/events/room:7`, {origin, accept: "text/event-stream"})
    assert.equal(stream.statusCode, 200)
    const lines = linesOf(stream)
    await until(lines, "")
    room.push("new_msg", {body: "for the stream"})
    await until(lines, 'data: {"body":"for the stream"}')
    stream.destroy()

    const session = JSON.parse(await bodyOf(await get(`${origin}/socket/longpoll?vsn=2.0.0`, {origin})))
    assert.equal(session.status, 410, "a new session, with its token")
    socket.disconnect()

    const elsewhere = await get(`${origin}/events/room:7`, {origin: "https://elsewhere.example", accept: "application/json"})
    assert.equal(elsewhere.statusCode, 403)
    elsewhere.destroy()
  }
})

function get(url, headers) {
  const ask = url.startsWith("https") ? request : requestPlain
  const response = new Promise((resolve, reject) => {
    ask(url, {headers, rejectUnauthorized: false}, resolve).on("error", reject).end()
  })
  return within(response, `the answer to ${url}`)
}

async function bodyOf(response) {
  let body = ""
  for await (const piece of response) body += piece
  return body
}

/** Reads up to a line. Comments come forever, so that only the whole can be late. */
function until(lines, wanted) {
  const read = async () => {
    for await (const line of {[Symbol.asyncIterator]: () => ({next: () => lines.next()})}) if (line === wanted) return
    assert.fail(`the stream ended before ${wanted}`)
  }
  return within(read(), `the line ${JSON.stringify(wanted)}`)
}
