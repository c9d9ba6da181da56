// Two ways to tell a difference, side by side: JSON Merge Patch (RFC 7396) and the format of Fossil (fdelta). `node measure.mjs`
// prints a table: what is sent of a message, as a share of the whole, and how long it takes to make and to apply.
//
// A difference goes out only where it is smaller than half; otherwise the message counts as whole.

const MESSAGES = 2_000

/** A kilobyte, of which two fields change. */
function* prices() {
  const rest = {
    symbol: "EURUSD", venue: {name: "XETRA", country: "DE", open: true}, currency: "EUR", description: "x".repeat(600),
    tags: Array.from({length: 24}, (_, at) => `tag-${at}`),
  }
  for (let n = 0; n < MESSAGES; n++) yield {...rest, bid: 1.1 + n / 10_000, ask: 1.1002 + n / 10_000}
}

/** Four kilobytes of text in one field, into which somebody types. */
function* documents() {
  let text = "All work and no play makes Jack a dull boy. ".repeat(90)
  for (let n = 0; n < MESSAGES; n++) {
    const at = (n * 37) % text.length
    text = text.slice(0, at) + "x" + text.slice(at + (n % 2))
    yield {id: 7, author: "ada", version: n, text}
  }
}

/** Where somebody points. */
function* cursors() {
  for (let n = 0; n < MESSAGES; n++) yield {id: "ada", x: (n * 7) % 1_920, y: (n * 13) % 1_080, color: "#c0ffee", page: 3}
}

const mergePatch = {
  make(before, now) {
    const patch = difference(JSON.parse(before), JSON.parse(now))
    return patch && JSON.stringify({patch})
  },
  apply: (before, patch) => JSON.stringify(merged(JSON.parse(before), JSON.parse(patch).patch)),
}

function difference(before, now) {
  const patch = {}
  for (const [name, value] of Object.entries(now)) {
    if (JSON.stringify(before[name]) === JSON.stringify(value)) continue
    if (value === null) return null
    const nested = isObject(value) ? difference(isObject(before[name]) ? before[name] : {}, value) : value
    if (nested === null) return null
    patch[name] = nested
  }
  for (const name of Object.keys(before)) if (!(name in now)) patch[name] = null
  return patch
}

function merged(target, patch) {
  const members = new Map(isObject(target) ? Object.entries(target) : [])
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) members.delete(name)
    else members.set(name, isObject(value) ? merged(members.get(name), value) : value)
  }
  return Object.fromEntries(members)
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value)
}

const BLOCK = 16
const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
const number = n => (n < 64 ? "" : number(Math.floor(n / 64))) + DIGITS[n % 64]

// As JSON, since that is what a frame holds. Without the checksum, which would make it longer.
const fossil = {
  make(before, now) {
    const blocks = new Map()
    for (let at = 0; at + BLOCK <= before.length; at += BLOCK) blocks.set(before.slice(at, at + BLOCK), at)
    let [out, plain, at] = [`${number(now.length)}\n`, 0, 0]
    while (at < now.length) {
      const found = blocks.get(now.slice(at, at + BLOCK))
      if (found === undefined) {
        at++
        continue
      }
      let [from, to, start] = [found, found, at]
      while (start > plain && from > 0 && now[start - 1] === before[from - 1]) [start, from] = [start - 1, from - 1]
      while (at < now.length && to < before.length && now[at] === before[to]) [at, to] = [at + 1, to + 1]
      if (start > plain) out += `${number(start - plain)}:${now.slice(plain, start)}`
      out += `${number(to - from)}@${number(from)},`
      plain = at
    }
    if (plain < now.length) out += `${number(now.length - plain)}:${now.slice(plain)}`
    return JSON.stringify({delta: out})
  },
  apply(before, delta) {
    const text = JSON.parse(delta).delta
    const digits = at => {
      let n = 0
      for (; DIGITS.includes(text[at]); at++) n = n * 64 + DIGITS.indexOf(text[at])
      return [n, at]
    }
    let [, at] = digits(0)
    let out = ""
    for (at++; at < text.length;) {
      const [count, sign] = digits(at)
      if (text[sign] === ":") {
        out += text.slice(sign + 1, sign + 1 + count)
        at = sign + 1 + count
      } else {
        const [from, end] = digits(sign + 1)
        out += before.slice(from, from + count)
        at = end + 1
      }
    }
    return out
  },
}

function measure(way, messages) {
  let [whole, sent, making, applying] = [0, 0, 0, 0]
  for (let at = 1; at < messages.length; at++) {
    const [before, now] = [messages[at - 1], messages[at]]
    const begun = performance.now()
    const difference = way.make(before, now)
    const made = performance.now()
    const isSent = difference !== null && difference.length * 2 < now.length
    if (difference !== null) {
      const applied = way.apply(before, difference)
      applying += performance.now() - made
      if (JSON.stringify(JSON.parse(applied), null, 0).length !== JSON.stringify(JSON.parse(now)).length) throw new Error("not the same")
    }
    making += made - begun
    whole += now.length
    sent += isSent ? difference.length : now.length
  }
  const micros = total => ((total * 1000) / (messages.length - 1)).toFixed(1)
  return `${(sent / whole).toFixed(3)} | ${micros(making)} µs | ${micros(applying)} µs`
}

console.log("| messages | bytes | way | share of the bytes | to make | to apply |\n|---|---|---|---|---|---|")
for (const [name, source] of Object.entries({prices, documents, cursors})) {
  const messages = [...source()].map(message => JSON.stringify(message))
  for (const [called, way] of [["Merge Patch", mergePatch], ["Fossil", fossil]]) {
    measure(way, messages)
    console.log(`| ${name} | ${messages.at(-1).length} | ${called} | ${measure(way, messages)} |`)
  }
}
