// What it costs that several nodes share a broker: `node measure.mjs` starts a Redis and one, two and three nodes, and one node without a
// broker, has `fanfare bench` measure each, round after round, and prints ratios of two runs of one round: the median, with the
// smallest and the largest. Everything runs on this machine, so the nodes, the broker and the clients share its cores.
//
// What a delivery costs is the CPU time of all nodes together (/proc/PID/stat), so that it says more on a busy machine than a rate would. At the
// same load each message comes alone. As fast as it goes a node without a broker gets several messages at once and sends them together,
// and one with a broker gets each by itself: then it is compared how much is sent together as well.
//
// A run in which messages came too late to be counted is made again, three times at most; `--runs load` leaves out those that say least
// on a busy machine.
//
//     node measure.mjs [--fanfare PATH] [--rounds 3] [--seconds 3] [--clients 300] [--rate 200] [--runs load,throughput,latency]

import {execFile, spawn} from "node:child_process"
import {mkdtempSync, rmSync, writeFileSync} from "node:fs"
import {createServer} from "node:net"
import {tmpdir} from "node:os"
import {join} from "node:path"
import {promisify, parseArgs} from "node:util"

const {values: options} = parseArgs({
  options: {
    fanfare: {type: "string", default: new URL("../../target/release/fanfare", import.meta.url).pathname},
    rounds: {type: "string", default: "3"},
    seconds: {type: "string", default: "3"},
    clients: {type: "string", default: "300"},
    rate: {type: "string", default: "200"},
    runs: {type: "string", default: "load,throughput,latency"},
  },
})

/** How many nodes; none is one without a broker. */
const SETUPS = [0, 1, 2, 3]
const TOPICS = {"without a history": "plain", "with a history": "kept"}

/** The clients are spread over the nodes. Load is the same for all, throughput keeps messages in flight, latency is that of a server that is not busy. */
const RUNS = {
  load: ["--clients", options.clients, "--rate", options.rate],
  throughput: ["--clients", options.clients, "--window", "8"],
  latency: ["--clients", "60", "--rate", "100"],
}

const run = promisify(execFile)
const folder = mkdtempSync(join(tmpdir(), "fanfare-nodes-"))
const started = []

function start(command, args) {
  const child = spawn(command, args, {stdio: ["ignore", "ignore", "inherit"], env: {...process.env, FANFARE_LOG_LEVEL: "error"}})
  child.on("error", error => {
    throw new Error(`${command}: ${error.message}`)
  })
  started.push(child)
  return child
}

async function freePort() {
  const server = createServer()
  await new Promise(resolve => server.listen(0, "127.0.0.1", resolve))
  const {port} = server.address()
  await new Promise(resolve => server.close(resolve))
  return port
}

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

async function until(isSo, what) {
  for (let tries = 0; tries < 600; tries++) {
    if (await isSo().catch(() => false)) return
    await sleep(50)
  }
  throw new Error(`${what}: not after 30 s`)
}

/** A node that listens and, with a broker, is connected to it. */
async function node(redis) {
  const [port, admin] = [await freePort(), await freePort()]
  const broker = redis ? `[broker]\nurl = "redis://127.0.0.1:${redis}"\n` : ""
  const file = join(folder, `${port}.toml`)
  const channel = (topic, more) => `[[channel]]\ntopic = "${topic}:*"\njoin = "open"\npublish = "open"\nevents = ["new_msg"]\n${more}`
  writeFileSync(file, `${broker}[[endpoint]]\n${channel("plain", "")}${channel("kept", "history = {}\n")}`)
  const child = start(options.fanfare, ["serve", "--config", file, "--listen", `127.0.0.1:${port}`, "--admin", `127.0.0.1:${admin}`])
  await until(async () => (await fetch(`http://127.0.0.1:${admin}/readyz`)).ok, `the node at ${port}`)
  return {port, pid: child.pid}
}

const TRIES = 3

/** A run of some name, or nothing where it is left out. */
async function bench(nodes, topic, name) {
  if (!options.runs.split(",").includes(name)) return null
  for (let left = TRIES - 1; ; left--) {
    try {
      return await benchOnce(nodes, topic, RUNS[name])
    } catch (error) {
      if (left === 0) throw error
    }
  }
}

async function benchOnce(nodes, topic, args) {
  const [first, ...others] = nodes
  const more = others.length ? ["--nodes", others.map(({port}) => `127.0.0.1:${port}`).join()] : []
  const {stdout} = await run(options.fanfare, [
    "bench", "fanout", `ws://127.0.0.1:${first.port}/socket`, ...more, ...args, "--topic", `${topic}:{room}`, "--seconds", options.seconds,
    "--server-pid", nodes.map(({pid}) => pid).join(), "--json", "--quiet",
  ])
  return JSON.parse(stdout)
}

async function stop(children) {
  for (const child of children) {
    child.kill("SIGKILL")
    await new Promise(resolve => (child.exitCode === null && child.signalCode === null ? child.on("exit", resolve) : resolve()))
  }
}

/** What one round has measured, by setup, topic and run. */
async function round() {
  const figures = {}
  for (const count of SETUPS) {
    const before = started.length
    const redis = count ? await freePort() : null
    if (redis) start("redis-server", ["--port", String(redis), "--bind", "127.0.0.1", "--save", "", "--loglevel", "warning", "--dir", folder])
    const nodes = []
    for (let number = 0; number < Math.max(count, 1); number++) nodes.push(await node(redis))
    for (const [name, topic] of Object.entries(TOPICS)) {
      const load = await bench(nodes, topic, "load")
      const throughput = await bench(nodes, topic, "throughput")
      const latency = await bench(nodes, topic, "latency")
      const all = [load, throughput, latency].filter(run => run)
      figures[`${count} ${name}`] = {
        cost: 1 / load?.deliveries_per_server_cpu_s,
        costAtFull: 1 / throughput?.deliveries_per_server_cpu_s,
        p50: latency?.latency_us.p50 / 1_000,
        p99: latency?.latency_us.p99 / 1_000,
        others: all.reduce((sum, run) => sum + run.others_cpu_s, 0) / all.reduce((sum, run) => sum + run.seconds, 0),
      }
    }
    await stop(started.splice(before))
  }
  return figures
}

function spread(numbers, digits) {
  if (numbers.some(Number.isNaN)) return "–"
  const sorted = [...numbers].sort((a, b) => a - b)
  const shown = number => number.toFixed(digits)
  return `${shown(sorted[Math.floor(sorted.length / 2)])} (${shown(sorted[0])} to ${shown(sorted.at(-1))})`
}

process.on("exit", () => started.forEach(child => child.kill("SIGKILL")))
const rounds = []
for (let number = 1; number <= Number(options.rounds); number++) {
  process.stderr.write(`round ${number} of ${options.rounds}\n`)
  rounds.push(await round())
}
console.log("|  | CPU of the nodes for a delivery, to one node without a broker: at the same load | as fast as it goes | p50 more, ms | p99 more, ms |")
console.log("|---|--:|--:|--:|--:|")
for (const name of Object.keys(TOPICS)) {
  for (const count of SETUPS.slice(1)) {
    const pairs = rounds.map(figures => [figures[`${count} ${name}`], figures[`0 ${name}`]])
    const ratio = key => spread(pairs.map(([its, alone]) => its[key] / alone[key]), 2)
    const more = key => spread(pairs.map(([its, alone]) => its[key] - alone[key]), 2)
    console.log(`| ${count} ${count === 1 ? "node" : "nodes"}, ${name} | ${ratio("cost")} | ${ratio("costAtFull")} | ${more("p50")} | ${more("p99")} |`)
  }
}
const others = rounds.flatMap(figures => Object.values(figures).map(({others}) => others))
console.log(`\nOther programs used ${spread(others, 2)} cores meanwhile, the broker among them.`)
await stop(started)
rmSync(folder, {recursive: true, force: true})
