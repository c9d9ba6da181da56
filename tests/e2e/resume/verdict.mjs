// What clients that resume may have seen, given what was published. Pure: the checker brings both, and so do the tests.
//
// A message is named by its id, `<publisher>-<number>`, and by its position. Positions mean nothing to clients; here
// they are taken apart, `<epoch>:<offset>`, to put what was published in order.

/**
 * What a topic was sent, in the order of the positions: `{id, position, unsure}`.
 *
 * `answers` are the publishes that were answered, in the order of the answers. Where the server ended instead of
 * answering, nobody knows whether it has kept the message: its id is in the set `unanswered`, and if a client has
 * seen it, it is part of the history, but others need not have seen it.
 */
export function historyOf(answers, unanswered, clients) {
  const epochs = [...new Set(answers.map(({position}) => parse(position).epoch))]
  const known = new Map(answers.map(answer => [answer.position, answer]))
  for (const {position, id} of clients.flat()) {
    if (unanswered.has(id) && !known.has(position)) known.set(position, {position, id, unsure: true})
  }
  const places = [...known.values()].map(message => ({message, ...parse(message.position)}))
  places.sort((a, b) => epochs.indexOf(a.epoch) - epochs.indexOf(b.epoch) || a.offset - b.offset)
  return places.map(({message}) => message)
}

/** What is wrong with the order in which the messages of each publisher were kept; empty when nothing is. */
export function verdictOnOrder(history) {
  const last = new Map()
  return history.flatMap(({id, position, unsure}) => {
    const {epoch} = parse(position)
    const [by, number] = id.split("-")
    const [n, before] = [Number(number), last.get(by) ?? {n: -1, sure: -1}]
    last.set(by, {epoch, n, sure: unsure ? before.sure : n})
    // What a server had that has ended before it said so is published once more.
    const isAnew = before.epoch !== epoch && n > before.sure
    return n > before.n || isAnew ? [] : [`swapped: ${id} at ${position} behind ${by}-${before.n}`]
  })
}

/**
 * What is wrong with what one client has seen of a history; empty when nothing is. `seen` is what happened to it, in
 * order:
 * - `{joined: position}`, at the beginning: what follows comes from behind there;
 * - `{position, id}`: a message;
 * - `{gap: {reason, from, to, dropped}}`: it was told that messages behind `from` up to `to` are missing.
 *
 * There is cause for as many gaps as there were `restarts` of a server that forgets, and for any that the policy `slow`
 * has made.
 */
export function verdict(history, seen, {restarts = 0, slow} = {}) {
  const faults = []
  const index = new Map(history.map(({position}, at) => [position, at]))
  const got = new Set()
  let forgotten = 0
  // So many messages of the history are done with: up to the last that came, and up to where the client knows of a gap.
  let served = 0
  let told = 0

  const serve = (upTo, before) => {
    for (const {position, id, unsure} of history.slice(Math.max(served, told), upTo)) {
      if (!unsure) faults.push(`lost: ${id} at ${position}, before ${before}`)
    }
    served = upTo
  }

  for (const {joined, gap, position, id} of seen) {
    if (joined !== undefined) {
      served = upTo(history, joined)
    } else if (gap !== undefined) {
      const begin = upTo(history, gap.from)
      if (begin < served) faults.push(`gap: behind ${gap.from}, of what had come`)
      serve(Math.max(served, begin), "a gap")
      told = Math.max(told, upTo(history, gap.to))
      if (gap.reason === "not_recovered") forgotten += 1
      else if (gap.reason !== slow) faults.push(`gap: ${gap.reason} is not the policy`)
      else if (gap.dropped !== distance(gap)) faults.push(`gap: ${gap.dropped} behind ${gap.from} up to ${gap.to}`)
    } else {
      const at = index.get(position)
      if (at === undefined) faults.push(`unknown: ${id} at ${position}`)
      else if (history[at].id !== id) faults.push(`another: ${id} at ${position} instead of ${history[at].id}`)
      else if (got.has(at)) faults.push(`doubled: ${id} at ${position}`)
      else if (at < served) faults.push(`late: ${id} at ${position} came behind later ones`)
      else serve(at, id), (served = at + 1)
      got.add(at)
    }
  }
  serve(history.length, "the end")
  if (forgotten > restarts) faults.push(`${forgotten} gaps were told, and there was cause for ${restarts}`)
  return faults
}

/** How many messages of a history there are up to a position, with those of earlier epochs. */
function upTo(history, position) {
  const {epoch, offset} = parse(position)
  const behind = history.findIndex(message => {
    const other = parse(message.position)
    return other.epoch === epoch && other.offset > offset
  })
  // Behind the last of its epoch comes the next epoch.
  return behind >= 0 ? behind : history.findLastIndex(message => parse(message.position).epoch === epoch) + 1
}

/** How many messages a gap spans; NaN if it has parts of two epochs. */
function distance({from, to}) {
  const [begin, end] = [parse(from), parse(to)]
  return begin.epoch === end.epoch ? end.offset - begin.offset : NaN
}

function parse(position) {
  const [epoch, offset] = position.split(":")
  return {epoch, offset: Number(offset)}
}
