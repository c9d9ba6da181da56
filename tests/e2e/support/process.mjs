// Starts one of the binaries, knows its address, and sees to it that it is gone in the end. With FANFARE_NODES, that many of it are
// started as nodes of a cluster, which tests use as they use one.

import {spawn} from "node:child_process"
import {once} from "node:events"
import {mkdtempSync, rmSync, writeFileSync} from "node:fs"
import {createServer} from "node:net"
import {tmpdir} from "node:os"
import {join} from "node:path"
import {createInterface} from "node:readline"
import {startCluster} from "./cluster.mjs"
import {within} from "./deadline.mjs"
import {linesOf} from "./lines.mjs"

const ADDRESS = /(?:127\.0\.0\.1|0\.0\.0\.0|localhost):(\d+)/
const CONFIG = "fanfare.toml"
const TOKEN = "a-token-for-the-end-to-end-tests"
// Draining may take 30 s.
const STOP_MS_MAX = 40_000

const NODES = Number(process.env.FANFARE_NODES ?? 1)

const running = new Set()
process.on("exit", () => running.forEach(child => child.kill("SIGKILL")))

/** `oracle` of tests/oracle on a free port. */
export function startOracle() {
  return started(async redis => {
    const args = ["--port", String(await freePort()), ...(redis ? ["--redis", redis] : [])]
    return new Server(binary("FANFARE_ORACLE"), args)
  })
}

/** `fanfare dev` on a free port, in the folder `cwd`, and with this environment. */
export function startDev(cwd, env = process.env) {
  return started(async redis => {
    const args = ["dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", ...(redis ? ["--set", `broker.url=${redis}`] : [])]
    return new Server(binary("FANFARE_BIN"), args, {cwd, env})
  })
}

/** `fanfare cluster demo` with so many nodes on a Redis. It has to be ended by SIGINT or SIGTERM, which ends the nodes. */
export async function startClusterDemo(nodes) {
  const args = ["cluster", "demo", "--nodes", String(nodes), "--broker", "redis", "--listen", "127.0.0.1:0"]
  const demo = new Server(binary("FANFARE_BIN"), args)
  await demo.start()
  return demo
}

/** `fanfare serve` with this configuration, in a folder of its own, and more in its environment. It keeps its ports when it is
 *  started again. */
export function startServe(config, variables = {}) {
  return started(async redis => {
    const folder = folderWith(redis ? `${config}\n[broker]\nurl = "${redis}"\n` : config)
    const [listen, admin] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`]
    const env = {...process.env, FANFARE_ADMIN_TOKEN: TOKEN, ...variables}
    const args = ["serve", "--config", CONFIG, "--listen", listen, "--admin", admin]
    const server = new Server(binary("FANFARE_BIN"), args, {cwd: folder, env})
    server.folder = folder
    server.admin = `http://${admin}`
    return server
  })
}

/** `fanfare sub` with these arguments: `lines` are what it prints and says, in that order; `stop` ends it. */
export function startSub(args) {
  // One pipe for both outputs keeps their order.
  const command = ["-c", 'exec "$0" sub "$@" 2>&1', binary("FANFARE_BIN"), ...args]
  const child = spawn("sh", command, {stdio: ["ignore", "pipe", "inherit"]})
  running.add(child)
  child.on("exit", () => running.delete(child))
  return {lines: linesOf(child.stdout), stop: () => child.kill()}
}

function folderWith(config) {
  const folder = mkdtempSync(join(tmpdir(), "fanfare-"))
  writeFileSync(join(folder, CONFIG), config)
  return folder
}

/** A server that `make` makes, or a cluster of them. */
async function started(make) {
  if (NODES > 1) return startCluster(NODES, make, freePort)
  const server = await make()
  await server.start()
  return server
}

/** A started binary; `told` has the lines of its standard error. */
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
    const errors = this.told = []
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

  /** Ends it, and removes what it may have left. */
  async remove() {
    await this.stop("SIGKILL")
    if (this.folder) rmSync(this.folder, {recursive: true})
  }

  /** Publishes by the HTTP API of a server that `startServe` started, and returns the position. */
  async publish(topic, event, payload, more = {}) {
    return (await this.publishAll([{topic, event, payload, ...more}]))[0]
  }

  /** The same for several messages at a time. */
  async publishAll(messages) {
    const {messages: published} = await this.#api("publish", {method: "POST", body: JSON.stringify({messages})})
    return (published ?? []).map(({position}) => position)
  }

  /** How often something has happened since this server was started, for a reason if it has several. */
  async counted(counter, why) {
    const {counters} = await this.#api("counters")
    return counters.find(({name, reason}) => name === counter && reason === why).value
  }

  /** The value of a metric, which is named with its labels. */
  async metric(name) {
    const response = await fetch(`${this.admin}/metrics`, {headers: {authorization: `Bearer ${TOKEN}`}})
    const line = (await response.text()).split("\n").find(line => line.startsWith(`${name} `))
    return Number(line?.split(" ").at(-1))
  }

  async #api(path, request = {}) {
    const headers = {"content-type": "application/json", authorization: `Bearer ${TOKEN}`}
    const response = await fetch(`${this.admin}/api/${path}`, {...request, headers})
    const answer = await response.json()
    if (!response.ok) throw new Error(`/api/${path} answered ${response.status}: ${JSON.stringify(answer)}`)
    return answer
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
export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const {port} = server.address()
  server.close()
  await once(server, "close")
  return port
}
