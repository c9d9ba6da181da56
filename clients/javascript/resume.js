// Makes a channel of the npm package `phoenix` resume: messages it missed while it was disconnected are delivered after
// the next join, in order and once, or `onGap` is called. Holds nothing but the position; storing it is up to the caller.

/**
 * Makes `channel` resume. Call it before `channel.join()`.
 *
 * Options:
 * - `from`: the position to resume from, such as one stored by an earlier page; without it the channel starts with new
 *   messages;
 * - `onPosition(position)`: the position has changed, as with every message; called before the message's own callbacks;
 * - `onGap({reason, from, to})`: messages after `from` are missing, so reload the state. The next message is the first
 *   after `to`. The reason is `not_recovered` (the server no longer has them), `no_history` (the topic keeps no messages),
 *   or that of a `gap` event of the server, which also has the number `dropped`.
 *
 * The `position` of the returned object is null until the first join is answered, unless `from` was given.
 */
export function resume(channel, {from = null, onPosition, onGap} = {}) {
  if (channel.joinedOnce) throw new Error(`call resume() before join(): ${channel.topic} has already joined`)
  const {joinPush, onMessage, socket, trigger} = channel
  let position = from
  // Whether there is anything to miss yet.
  let following = from !== null

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
    if (following && !answer?.recovered) {
      onGap?.({reason: answer ? "not_recovered" : "no_history", from: before, to: position})
    }
    following = true
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
