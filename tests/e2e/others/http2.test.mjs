// WebSockets over HTTP/2 (RFC 8441): by Node's own client, and as Chromium does by itself.

import assert from "node:assert/strict"
import {execFileSync} from "node:child_process"
import {mkdtempSync, rmSync} from "node:fs"
import {connect, constants} from "node:http2"
import {once} from "node:events"
import {tmpdir} from "node:os"
import {join} from "node:path"
import {after, before, describe, test} from "node:test"
import {chromium} from "playwright-core"
import {Receiver, Sender} from "ws"
import {ARGS} from "../support/browser.mjs"
import {Inbox, within} from "../support/deadline.mjs"
import {startServe} from "../support/process.mjs"

const {HTTP2_HEADER_METHOD, HTTP2_HEADER_PATH, HTTP2_HEADER_PROTOCOL, HTTP2_HEADER_STATUS} = constants

const CONFIG = `
[[endpoint]]
path = "/socket"

[[channel]]
topic = "room:*"
join = "open"
publish = "open"
`

describe("HTTP/2", () => {
  let folder, server, origin
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "fanfare-http2-"))
    const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")]
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    const made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", cert, ...subject]
    execFileSync("openssl", made, {stdio: "ignore"})
    server = await startServe(`${CONFIG}\n[tls]\ncert = "${cert}"\nkey = "${key}"\nhttp2 = true\n`)
    origin = `https://localhost:${server.port}`
  })
  after(async () => {
    await server.remove()
    rmSync(folder, {recursive: true})
  })

  /** A socket as a stream of a connection: what it gets, and how it sends. */
  async function socketOn(session) {
    const stream = session.request({
      [HTTP2_HEADER_METHOD]: "CONNECT",
      [HTTP2_HEADER_PROTOCOL]: "websocket",
      [HTTP2_HEADER_PATH]: "/socket/websocket?vsn=2.0.0",
      "sec-websocket-version": "13",
    })
    const [headers] = await within(once(stream, "response"), "the answer")
    assert.equal(headers[HTTP2_HEADER_STATUS], 200)
    const heard = new Inbox("a message")
    const receiver = new Receiver({isServer: false})
    receiver.on("message", data => heard.put(JSON.parse(data)))
    stream.pipe(receiver)
    const sender = new Sender(stream, {})
    const push = frame => sender.send(JSON.stringify(frame), {fin: true, mask: true, binary: false, compress: false})
    return {stream, heard, push}
  }

  test("Node has several sockets and requests on one connection", async () => {
    const session = connect(origin, {rejectUnauthorized: false})
    await within(once(session, "remoteSettings"), "the settings")
    assert.equal(session.remoteSettings.enableConnectProtocol, true)
    assert.equal(session.remoteSettings.maxConcurrentStreams, 100)
    const sockets = await Promise.all([socketOn(session), socketOn(session)])
    for (const {heard, push} of sockets) {
      push(["1", "1", "room:a", "phx_join", {}])
      assert.equal((await heard.next())[4].status, "ok")
    }
    sockets[0].push(["1", "2", "room:a", "say", {text: "x".repeat(200_000)}])
    for (const {heard} of sockets) {
      const [, , topic, event, payload] = await heard.next()
      assert.deepEqual([topic, event, payload.text?.length ?? payload.status], ["room:a", "say", 200_000])
    }
    const request = session.request({[HTTP2_HEADER_PATH]: "/nowhere"})
    const [headers] = await within(once(request, "response"), "the answer")
    assert.equal(headers[HTTP2_HEADER_STATUS], 404)
    request.close()
    session.destroy()
  })

  test("Chromium puts the WebSocket of a page on the page's connection", async () => {
    const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium"
    const browser = await chromium.launch({executablePath, args: [...ARGS, "--ignore-certificate-errors"]})
    try {
      const page = await browser.newPage()
      await page.goto(origin)
      assert.equal(await page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol"), "h2")
      const accepted = () => server.metric('fanfare_connections_accepted_total{listener="clients"}')
      const before = await accepted()
      const reply = await page.evaluate(`new Promise((resolve, reject) => {
        const socket = new WebSocket("wss://localhost:${server.port}/socket/websocket?vsn=2.0.0")
        socket.onopen = () => socket.send('["1","1","room:page","phx_join",{}]')
        socket.onmessage = ({data}) => resolve(JSON.parse(data))
        socket.onerror = () => reject(new Error("no socket"))
      })`)
      assert.equal(reply[4].status, "ok")
      assert.ok(before > 0)
      assert.equal(await accepted(), before, "no connection beside the page's")
    } finally {
      await browser.close()
    }
  })
})
