// The lobby as the stock client sees it: one socket, one channel, its presence; and what was missed, by `fanfare-resume`.
// Knows nothing of the page.

import {LongPoll, Presence, Socket} from "phoenix"
import {resume} from "../../clients/javascript/resume.js"

const TOPIC = "room:lobby"
const RECONNECT_AFTER_MS = [10, 50, 100, 150, 200, 250, 500, 1000, 2000]
const RECONNECT_AFTER_MS_MAX = 5000
const LEAVE_MS_MAX = 1000

/**
 * Tells its `listener` what happens:
 * - `status({state, nextTryAt})`: state is `connecting`, `open`, `reconnecting` (then nextTryAt is the time of the next
 *   attempt, in ms since the epoch) or `closed`, which only the visitor can cause;
 * - `joined({recovered, earlier, node})`, after each successful join: whether everything missed since the last one follows, at
 *   the first one the newest messages, and which node of a cluster it is on; and `trouble(sentence)`, when a join failed;
 * - `message({id, name, body, at})`, `people([{name, count, nodes}])`, `arrived(name)`, `departed(name)`;
 * - `sent(id)` or `unsent(id, sentence)`, for each message that was said.
 */
export class Lobby {
  #position = null

  constructor(name, transport, listener) {
    this.name = name
    this.transport = transport
    this.listener = listener
    this.socket = null
    this.channel = null
  }

  get joined() {
    return this.channel?.state === "joined" && this.socket.isConnected()
  }

  connect() {
    const socket = new Socket("/socket", {
      transport: this.transport === "longpoll" ? LongPoll : window.WebSocket,
      // The client's own schedule; given here because the client tells nobody when it will try next.
      reconnectAfterMs: tries => {
        const delay = RECONNECT_AFTER_MS[tries - 1] ?? RECONNECT_AFTER_MS_MAX
        this.#status(socket, {state: "reconnecting", nextTryAt: Date.now() + delay})
        return delay
      },
    })
    socket.onOpen(() => this.#status(socket, {state: "open"}))
    this.socket = socket
    this.#status(socket, {state: "connecting"})
    socket.connect()
    this.#enter()
  }

  disconnect() {
    const {socket, channel} = this
    this.#status(socket, {state: "closed"})
    this.socket = null
    this.channel = null
    if (channel) leave(channel, () => socket.disconnect())
    else socket.disconnect()
  }

  /** Skips what is left of the wait before the next attempt. */
  retryNow() {
    const {socket} = this
    this.#status(socket, {state: "connecting"})
    socket.disconnect(() => socket === this.socket && socket.connect())
  }

  /**
   * Joins again under another name, once the old membership is over. With both at a time, the client's presence for the
   * new channel would start with diffs that were meant for the old one.
   */
  rename(name) {
    this.name = name
    const {socket, channel} = this
    if (!channel) return
    this.channel = null
    leave(channel, () => socket === this.socket && this.#enter())
  }

  useTransport(transport) {
    this.transport = transport
    if (!this.socket) return
    this.disconnect()
    this.connect()
  }

  /** The id comes back with the message, which is how its sender knows that it was sent. */
  say(id, body) {
    this.channel
      .push("new_msg", {id, body, name: this.name, at: Date.now()})
      .receive("ok", () => this.listener.sent(id))
      .receive("error", response => this.listener.unsent(id, `Not sent: ${reasonOf(response)}.`))
      .receive("timeout", () => this.listener.unsent(id, "Perhaps not sent: the server did not answer."))
  }

  #enter() {
    const channel = this.socket.channel(TOPIC, {name: this.name})
    this.channel = channel
    const current = told => (...args) => channel === this.channel && told(...args)

    resume(channel, {from: this.#position, onPosition: current(position => (this.#position = position))})
    channel.on("new_msg", current(message => this.listener.message(message)))
    this.#watch(new Presence(channel), current)
    channel.onError(current(() => {
      if (this.socket.isConnected()) this.listener.trouble("The channel ended with an error. Joining again…")
    }))
    channel
      .join()
      .receive("ok", current(response => this.listener.joined({
        recovered: response.resume?.recovered ?? false,
        node: response.node ?? null,
        earlier: (response.messages ?? []).filter(({event}) => event === "new_msg").map(({payload}) => payload),
      })))
      .receive("error", current(response => this.listener.trouble(`Could not join: ${reasonOf(response)}. Trying again…`)))
      .receive("timeout", current(() => this.listener.trouble("The server did not answer. Trying again…")))
  }

  #watch(presence, current) {
    // Those who are there already when we come did not just arrive.
    let synced = false
    presence.onJoin(current((name, known) => synced && !known && this.listener.arrived(name)))
    presence.onLeave(current((name, left) => synced && left.metas.length === 0 && this.listener.departed(name)))
    presence.onSync(current(() => {
      synced = true
      this.listener.people(presence.list((name, {metas}) => ({
        name,
        count: metas.length,
        nodes: [...new Set(metas.map(({node}) => node).filter(node => typeof node === "string"))].sort(),
      })))
    }))
  }

  // A socket that was given up may still tell of its end.
  #status(socket, status) {
    if (socket === this.socket) this.listener.status(status)
  }
}

// The client counts a leave as done when it is written; this waits for the server's side of it. Closing before that would
// leave a long-poll session behind, which looks present until the server gives it up.
function leave(channel, done) {
  const {socket} = channel
  const joinRef = channel.joinRef()
  const known = socket.isConnected() && ["joined", "joining"].includes(channel.state)
  channel.leave()
  if (!known) return done()
  const finish = () => {
    clearTimeout(timer)
    socket.off([watch])
    done()
  }
  const timer = setTimeout(finish, LEAVE_MS_MAX)
  const watch = socket.onMessage(({event, join_ref}) => event === "phx_close" && join_ref === joinRef && finish())
}

function reasonOf(response) {
  return response?.reason ?? "no reason given"
}
