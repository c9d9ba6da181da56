// Starts one of the binaries, knows its address, and sees to it that it is gone in the end.

import {spawn} from "node:child_process"
import {once} from "node:events"
import {createServer} from "node:net"
import {createInterface} from "node:readline"
import {within} from "./deadline.mjs"

const ADDRESS = /(?:127\.0\.0\.1|0\.0\.0\.0|localhost):(\d+)/
// Draining may take 30 s.
const STOP_MS_MAX = 40_000

const running = new Set()
process.on("exit", () => running.forEach(child => child.kill("SIGKILL")))

/** The example `oracle` on a free port. */
export async function startOracle() {
  return start(binary("FANFARE_ORACLE"), ["--port", String(await freePort())])
}

/** `fanfare dev` on a free port, in the folder `cwd`. */
export function startDev(cwd) {
  return start(binary("FANFARE_BIN"), ["dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], {cwd})
}

async function start(command, args, options) {
  const server = new Server(command, args, options)
  await server.start()
  return server
}

class Server {
  #command
  #args
  #options
  #child

  constructor(command, args, options) {
    this.#command = command
    this.#args = args
    this.#options = options
  }

  async start() {
    const child = spawn(this.#command, this.#args, {...this.#options, stdio: ["ignore", "pipe", "pipe"]})
    this.#child = child
    running.add(child)
    const errors = []
    createInterface({input: child.stderr}).on("line", line => {
      errors.push(line)
      const admin = line.match(/HTTP API\s+(http:\/\/127\.0\.0\.1:\d+)/)
      if (admin) this.admin = admin[1]
    })
    const address = new Promise((resolve, reject) => {
      createInterface({input: child.stdout}).on("line", line => {
        const found = line.match(ADDRESS)
        if (found) resolve(Number(found[1]))
      })
      child.on("error", reject)
      child.on("exit", status => reject(new Error(`${this.#command} ended with ${status}:\n${errors.join("\n")}`)))
    })
    this.port = await within(address, `the address of ${this.#command}`)
    this.http = `http://127.0.0.1:${this.port}`
    this.ws = `ws://127.0.0.1:${this.port}`
  }

  /** Ends the process with `signal` and returns its exit status, or the signal's name when that ended it. */
  async stop(signal = "SIGTERM") {
    const child = this.#child
    if (child.exitCode === null && child.signalCode === null) {
      const gone = once(child, "exit")
      child.kill(signal)
      await within(gone, `the end of ${this.#command} after ${signal}`, STOP_MS_MAX)
    }
    running.delete(child)
    return child.signalCode ?? child.exitCode
  }

  /** Posts JSON and returns the JSON that is answered. */
  async post(path, body = {}) {
    const headers = {"content-type": "application/json"}
    const response = await fetch(this.http + path, {method: "POST", headers, body: JSON.stringify(body)})
    return response.json()
  }
}

function binary(variable) {
  const path = process.env[variable]
  if (!path) throw new Error(`${variable} names no binary; start the tests with ./run.sh`)
  return path
}

// Somebody else could take the port before it is used; a server that is to come back on its port has to risk that.
async function freePort() {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const {port} = server.address()
  server.close()
  await once(server, "close")
  return port
}
