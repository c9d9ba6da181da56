// A TCP proxy that is a bad network: late, in little pieces, silent, stalled, or cut.

import {once} from "node:events"
import {connect, createServer} from "node:net"
import {setImmediate as turn} from "node:timers/promises"
import {sleep} from "./deadline.mjs"

const SLICE_BYTES_MAX = 7

/**
 * Listens on a free port and passes everything on to `port`.
 * `latencyMs` delays each read; with `sliced`, bytes leave in writes of 1 to 7.
 */
export async function startProxy(port, {latencyMs = 0, sliced = false} = {}) {
  const proxy = new Proxy(port, latencyMs, sliced)
  await proxy.listen()
  return proxy
}

class Proxy {
  #target
  #latencyMs
  #sliced
  #server
  #sockets = new Set()
  #refusing = false
  #silent = false
  #flowing = Promise.resolve()
  #flow = () => {}

  constructor(target, latencyMs, sliced) {
    this.#target = target
    this.#latencyMs = latencyMs
    this.#sliced = sliced
    this.#server = createServer(inner => this.#accept(inner))
  }

  async listen() {
    this.#server.listen(0, "127.0.0.1")
    await once(this.#server, "listening")
    this.port = this.#server.address().port
    this.http = `http://127.0.0.1:${this.port}`
    this.ws = `ws://127.0.0.1:${this.port}`
  }

  /** Breaks all connections and takes no new ones. */
  cut() {
    this.#refusing = true
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Keeps all connections, and takes new ones, but passes nothing on: what comes is lost. */
  silence() {
    this.#silent = true
  }

  /** Keeps all connections, and takes new ones, but reads nothing: what is sent waits where it is until `mend`. */
  stall() {
    this.#flow()
    this.#flowing = new Promise(resolve => (this.#flow = resolve))
  }

  /** Passes everything on again. Connections that were silent have lost something and are broken. */
  mend() {
    this.#flow()
    for (const socket of this.#silent ? this.#sockets : []) socket.destroy()
    this.#refusing = false
    this.#silent = false
  }

  async close() {
    this.cut()
    this.#flow()
    this.#server.close()
    await once(this.#server, "close")
  }

  #accept(client) {
    if (this.#refusing) return client.destroy()
    const server = connect(this.#target, "127.0.0.1")
    for (const [socket, other] of [[client, server], [server, client]]) {
      this.#sockets.add(socket)
      socket.setNoDelay(true)
      socket.on("error", () => {})
      socket.on("close", () => {
        this.#sockets.delete(socket)
        other.destroy()
      })
    }
    this.#pass(client, server)
    this.#pass(server, client)
  }

  async #pass(from, to) {
    try {
      for await (const bytes of from) {
        await this.#flowing
        if (this.#silent) continue
        if (this.#latencyMs) await sleep(this.#latencyMs)
        if (this.#sliced) await writeSliced(to, bytes)
        else to.write(bytes)
      }
      to.end()
    } catch {
      to.destroy()
    }
  }
}

async function writeSliced(to, bytes) {
  let size = 1
  for (let at = 0; at < bytes.length; at += size) {
    size = (size % SLICE_BYTES_MAX) + 1
    to.write(bytes.subarray(at, at + size))
    // Without giving way the kernel would see one write.
    await turn()
  }
}
