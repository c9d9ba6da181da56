// Lets a channel of the npm package `phoenix` go on where it was: what it missed while it was away is delivered after
// the next join, in order and once, or `onGap` is told that it is not. Keeps nothing but the position; storage is the
// caller's.

/**
 * Makes `channel` resume. To be called before `channel.join()`.
 *
 * Options:
 * - `from`: the position of an earlier page, to go on from there; without it the channel begins with what comes;
 * - `onPosition(position)`: the position has moved, as with every message; told before the message's own callbacks;
 * - `onGap({reason, from, to})`: messages behind `from` are missing, so reload the state. What follows begins behind
 *   `to`. The reason is `not_recovered` (the server has not kept so much), `no_history` (the topic keeps nothing), or
 *   that of a `gap` event of the server, which has the number `dropped` as well.
 *
 * The `position` of the object that is returned is null until the first join is answered, unless `from` was given.
 */
export function resume(channel, {from = null, onPosition, onGap} = {}) {
  if (channel.joinedOnce) throw new Error(`resume() comes before join(), and ${channel.topic} was joined already`)
  const {joinPush, onMessage, socket, trigger} = channel
  let position = from
  // Whether there is something that can be missed.
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

  // A join that was given up may still be served for a while. The join that takes its place begins at the position with
  // which it was sent, and brings what comes until then.
  channel.trigger = (event, payload, ref, joinRef) => {
    if (isPosition(ref) && channel.state !== "joined") return
    trigger.call(channel, event, payload, ref, joinRef)
  }

  // The client's version 1.7 does not join again when the server gives its long-poll a new session for one that is
  // gone, or after disconnect() and connect().
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
