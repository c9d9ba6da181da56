// Several nodes on one Redis, behind a proxy that gives each connection to the next one: to a test they are one server.

import {execFile, spawn} from "node:child_process"
import {once} from "node:events"
import {connect, createServer} from "node:net"
import {promisify} from "node:util"
import {eventually} from "./deadline.mjs"

// The channel on which nodes hear each other.
const NODES = "ff:l:{\u0001nodes}"

const running = new Set()
process.on("exit", () => running.forEach(child => child.kill("SIGKILL")))

/** `make(url)` makes a node that is not started yet, with the Redis at `url`. */
export async function startCluster(count, make, freePort) {
  const redis = await startRedis(await freePort())
  const nodes = await Promise.all(Array.from({length: count}, () => make(redis.url)))
  const cluster = new Cluster(redis, nodes)
  await cluster.start()
  return cluster
}

class Cluster {
  #redis
  #nodes
  #balancer
  #next = 0
  #sockets = new Set()

  constructor(redis, nodes) {
    this.#redis = redis
    this.#nodes = nodes
  }

  async start() {
    await Promise.all(this.#nodes.map(node => node.start()))
    await eventually(async () => await this.#redis.subscribers(NODES) === this.#nodes.length, "all nodes to be connected")
    if (this.#balancer) return
    this.#balancer = createServer(client => this.#accept(client)).listen(0, "127.0.0.1")
    await once(this.#balancer, "listening")
    this.port = this.#balancer.address().port
    this.http = `http://127.0.0.1:${this.port}`
    this.ws = `ws://127.0.0.1:${this.port}`
  }

  /** Ends all nodes; the status of the first that did not end as it should, else that of all. */
  async stop(signal) {
    const ends = await Promise.all(this.#nodes.map(node => node.stop(signal)))
    return ends.find(end => end !== 0) ?? 0
  }

  async remove() {
    await Promise.all(this.#nodes.map(node => node.remove()))
    for (const socket of this.#sockets) socket.destroy()
    this.#balancer?.close()
    await this.#redis.stop()
  }

  post(path, body) {
    return this.#any().post(path, body)
  }

  publish(...message) {
    return this.#any().publish(...message)
  }

  publishAll(messages) {
    return this.#any().publishAll(messages)
  }

  async counted(...counter) {
    const counts = await Promise.all(this.#nodes.map(node => node.counted(...counter)))
    return counts.reduce((sum, count) => sum + count)
  }

  #any() {
    this.#next += 1
    return this.#nodes[this.#next % this.#nodes.length]
  }

  // To the next node that is there; if none is, the client is told by the end of its connection.
  async #accept(client) {
    this.#sockets.add(client)
    client.on("close", () => this.#sockets.delete(client)).on("error", () => {})
    for (let tries = 0; tries < this.#nodes.length; tries += 1) {
      const node = connect(this.#any().port, "127.0.0.1")
      if (!await reached(node)) continue
      for (const [from, to] of [[client, node], [node, client]]) {
        from.setNoDelay(true)
        from.on("error", () => to.destroy()).on("close", () => to.destroy())
        from.pipe(to)
      }
      if (client.destroyed) node.destroy()
      return
    }
    client.destroy()
  }
}

function reached(socket) {
  return new Promise(resolve => socket.once("connect", () => resolve(true)).once("error", () => resolve(false)))
}

async function startRedis(port) {
  const args = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
  const child = spawn("redis-server", args, {stdio: "ignore"})
  running.add(child)
  child.on("exit", () => running.delete(child))
  const ask = async (...words) => (await promisify(execFile)("redis-cli", ["-p", String(port), ...words])).stdout.trim()
  await eventually(() => ask("PING").then(answer => answer === "PONG", () => false), "Redis to listen")
  return {
    url: `redis://127.0.0.1:${port}`,
    subscribers: async channel => Number((await ask("PUBSUB", "SHARDNUMSUB", channel)).split("\n").at(-1)),
    async stop() {
      if (running.has(child)) {
        child.kill("SIGKILL")
        await once(child, "exit")
      }
    },
  }
}
