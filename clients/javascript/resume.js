// Makes a channel of the npm package `phoenix` resume: messages it missed while it was disconnected are delivered after
// the next join, in order and once, or `onGap` is called. Holds nothing but the position; storing it is up to the caller.
// And makes a channel take differences: the server tells of a message only what is different from the one before it.

/**
 * Makes `channel` resume. Call it before `channel.join()`.
 *
 * Options:
 * - `from`: the position to resume from, such as one stored by an earlier page; without it the channel starts with new
 *   messages;
 * - `onPosition(position)`: the position has changed, as with every message; called before the message's own callbacks;
 * - `onGap({reason, from, to})`: messages after `from` are missing, so reload the state. The next message is the first
 *   after `to`. The reason is `not_recovered` (the server no longer has them), `no_history` (the topic keeps no messages),
 *   `not_a_position` (the server cannot read `from`, such as one that was stored by something else), or that of a `gap`
 *   event of the server, which also has the number `dropped`.
 *
 * The `position` of the returned object is null until the first join is answered, unless `from` was given.
 */
export function resume(channel, {from = null, onPosition, onGap} = {}) {
  if (channel.joinedOnce) throw new Error(`call resume() before join(): ${channel.topic} has already joined`)
  const {joinPush, onMessage, socket, trigger} = channel
  let position = from
  // Whether there is anything to miss yet.
  let following = from !== null
  // A position that the server cannot read.
  let unread = null

  const move = to => {
    position = to
    onPosition?.(to)
  }

  const params = joinPush.payload
  joinPush.payload = () => ({...params(), resume: position ?? true})

  joinPush.receive("ok", response => {
    const before = position
    const answer = response?.resume
    if (answer) move(answer.position)
    if (unread !== null) {
      onGap?.({reason: "not_a_position", from: unread, to: position})
    } else if (following && !answer?.recovered) {
      onGap?.({reason: answer ? "not_recovered" : "no_history", from: before, to: position})
    }
    following = true
    unread = null
  })

  // The client joins again by itself, and would be refused each time.
  joinPush.receive("error", response => {
    if (position === null || !String(response?.reason).startsWith("resume: ")) return
    unread = position
    position = null
  })

  channel.onMessage = (event, payload, ref, joinRef) => {
    const handled = onMessage.call(channel, event, payload, ref, joinRef)
    if (isPosition(ref)) move(ref)
    if (event === "gap") onGap?.(payload)
    return handled
  }

  // The server may still serve a join that the client has given up. The join that replaces it starts at the position it
  // was sent with, and brings those messages again.
  channel.trigger = (event, payload, ref, joinRef) => {
    if (isPosition(ref) && channel.state !== "joined") return
    trigger.call(channel, event, payload, ref, joinRef)
  }

  // Version 1.7 of the client does not join again when the server replaces a lost long-poll session with a new one, or
  // after disconnect() and connect().
  const opened = socket.onOpen(() => {
    if (channel.state === "joined") channel.trigger("phx_error", {reason: "the connection is a new one"})
  })
  channel.onClose(() => socket.off([opened]))

  return {
    get position() {
      return position
    },
  }
}

/** Whether a frame's ref is a position. The refs of requests are numbers. */
function isPosition(ref) {
  return typeof ref === "string" && ref.includes(":")
}

/**
 * Makes `channel` take differences. Call it before `channel.join()`; together with `resume`, in any order.
 *
 * What callbacks get is theirs to change. The members of an object come in no particular order.
 *
 * Options:
 * - `onWhole(reason)`: the server answered the join that it sends whole messages, and why; without it, a warning is logged.
 *   Called once for each reason. The channel works nevertheless.
 */
export function delta(channel, {onWhole = reason => console.warn(`delta of ${channel.topic}: ${reason}`)} = {}) {
  if (channel.joinedOnce) throw new Error(`call delta() before join(): ${channel.topic} has already joined`)
  const {joinPush, trigger} = channel
  // The last message of each event and key, the oldest first; and which member of a payload is its key.
  let [kept, key, most] = [new Map(), null, 0]
  const reasons = new Set()

  const params = joinPush.payload
  joinPush.payload = () => ({...params(), delta: true})

  // Behind the answer to a join all messages are whole, until there is one that the server knows to have come.
  joinPush.receive("ok", response => {
    const told = response?.delta
    kept = new Map()
    key = told?.key ?? null
    most = told?.keys ?? 0
    const reason = told ? told.reason : "the server does not know of delta"
    if (reason !== undefined && !reasons.has(reason)) {
      reasons.add(reason)
      onWhole(reason)
    }
  })

  const keep = (name, message) => {
    kept.delete(name)
    kept.set(name, message)
    if (kept.size > most) kept.delete(kept.keys().next().value)
  }

  channel.trigger = (event, payload, ref, joinRef) => {
    if (typeof ref === "string" && ref.startsWith("~")) {
      const name = nameOf(event, payload.key ?? "")
      if (!kept.has(name)) {
        // The server knows better what has come, so this does not happen; but nothing wrong must be shown. A new join mends it.
        return trigger.call(channel, "phx_error", {reason: "a difference to a message that has not come"})
      }
      const message = merged(kept.get(name), payload.patch)
      keep(name, message)
      return trigger.call(channel, event, structuredClone(message), ref.slice(1) || null, joinRef)
    }
    // What the server sends to this client alone has the ref of its join, and is nothing that others have got.
    if (most > 0 && (joinRef ?? null) === null && isMessage(event) && isObject(payload)) {
      const own = key === null ? "" : payload[key]
      if (typeof own === "string") keep(nameOf(event, own), structuredClone(payload))
    }
    trigger.call(channel, event, payload, ref, joinRef)
  }
}

/** JSON Merge Patch, RFC 7396; what it is applied to stays as it is. */
function merged(target, patch) {
  const members = new Map(isObject(target) ? Object.entries(target) : [])
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) members.delete(name)
    else members.set(name, isObject(value) ? merged(members.get(name), value) : value)
  }
  return Object.fromEntries(members)
}

function nameOf(event, key) {
  return `${event}\n${key}`
}

/** Whether an event is an application's. */
function isMessage(event) {
  return !/^(phx_|presence_|chan_reply_|disconnect$)/.test(event)
}

function isObject(value) {
  return typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype
}
