// The kinds of client that follow a topic: stock ones with the npm package, the command `fanfare sub`, and the
// stream over plain HTTP. Each of them is a name and `follow(address, topic, witness)`, which begins and returns
// `{move, end}`. The witness has `joined(position, recovered)`, and `seen`, to which messages, `{position, id}`, and
// gaps, `{gap}`, are added.

import {resume} from "fanfare-resume"
import {CLIENTS, Visit} from "../support/clients.mjs"
import {sleep} from "../support/deadline.mjs"
import {startSub} from "../support/process.mjs"
import {Stream} from "../support/stream.mjs"

/** Clients wait at most 3 s for their connection to be closed. */
const MOVE_MS_MAX = 4_000
/** Before a command that has ended is started again. */
const PAUSE_MS = 50
/** Impatient clients have been gone and back more often. */
const IMPATIENT = {
  timeout: 800,
  heartbeatIntervalMs: 600,
  longpollerTimeout: 1_500,
  reconnectAfterMs: tries => Math.min(20 * tries, 200),
  rejoinAfterMs: tries => Math.min(20 * tries, 200),
}

export const KINDS = [
  ...CLIENTS.map(client => ({
    name: `${client.version} ${client.transport}`,
    follow: (address, topic, witness) => followAsStock(client, address, topic, witness),
  })),
  {name: "command", follow: followByCommand},
  {name: "stream", follow: followAsStream},
]

/** Moves between the transports. */
function followAsStock(client, address, topic, witness) {
  const visit = new Visit(client, address)
  const socket = visit.connect(IMPATIENT)
  const channel = socket.channel(topic)
  const resuming = resume(channel, {onGap: gap => witness.seen.push({gap})})
  channel.on("n", ({id}, position) => witness.seen.push({position, id}))
  // Whether something is missing is told by `onGap`.
  channel.joinPush.receive("ok", () => witness.joined(resuming.position, true))
  channel.join()

  const move = () => {
    const next = socket.transport === visit.LongPoll ? visit.WebSocket : visit.LongPoll
    const moved = new Promise(resolve => socket.disconnect(() => {
      socket.replaceTransport(next)
      socket.connect()
      resolve()
    }))
    // Version 1.7 calls nobody back when its heartbeat gives the connection up meanwhile: it connects again where it
    // was.
    return Promise.race([moved, sleep(MOVE_MS_MAX)])
  }
  return {move, end: () => visit.end()}
}

/** Moves to another process, which begins where the last line was. */
function followByCommand(address, topic, witness) {
  const events = ["n", "gap", "phx_reply"].flatMap(event => ["--event", event])
  const given = [topic, "--url", `${address.ws}/socket`, ...events]
  let position, sub
  let isOver = false

  const hear = line => {
    if (line.startsWith(`joined ${topic}`)) return witness.joined(position, !line.includes("messages are missing"))
    if (!line.startsWith("{")) return
    const {event, payload, position: at} = JSON.parse(line)
    position = at ?? payload.response?.resume?.position ?? position
    if (event !== "phx_reply") testify(witness, {event, payload, position})
  }
  const run = async () => {
    while (!isOver) {
      sub = startSub([...given, ...(position ? ["--since", position] : [])])
      for await (const line of sub.lines) hear(line)
      await sleep(PAUSE_MS)
    }
  }
  const running = run()
  const end = () => {
    isOver = true
    sub.stop()
    return running
  }
  return {move: () => sub.stop(), end}
}

/** Moves between the formats. */
function followAsStream(address, topic, witness) {
  const stream = new Stream(`${address.http}/events/${topic}`, event => testify(witness, event))
  return {
    move: () => stream.reopen(stream.format === "events" ? "lines" : "events"),
    end: () => stream.end(),
  }
}

function testify(witness, {event, payload, position}) {
  if (event === "n") witness.seen.push({position, id: payload.id})
  if (event === "gap") witness.seen.push({gap: payload})
  if (event === "joined") witness.joined(position, payload.recovered)
}
