// The rooms page: one socket, the frames of the protocol, and what comes back. When the connection is lost it comes back by
// itself, and joins again what it had joined.

import {Compose, Control, element, isolated, onSubmit, received, remark, said, socketAddress} from "./page.js"

const DELAYS_MS = [200, 1_000, 2_000, 5_000]

const joined = new Set()
// One's own messages that have not come back yet, by room and text.
const waiting = []
let socket, timer
let tries = 0

const connection = new Control("connection", ["Connect", "Disconnect"], {
  begin: connect,
  end() {
    clearTimeout(timer)
    socket.onclose = null
    socket.close(1000)
    giveUpWaiting()
    closed("Closed")
  },
})

const compose = new Compose(({text, to}) => {
  if (connection.state !== "open" || !joined.has(to)) return false
  socket.send(JSON.stringify({say: {name: "rooms", body: text}, to}))
  waiting.push({text, entry: said(text, "Sending…")})
})

onSubmit("room", ({room, action}) => send({[action]: room}))
element("room").addEventListener("input", show)
connect()

function connect() {
  connection.show(tries === 0 ? "connecting" : "reconnecting", tries === 0 ? "Connecting…" : "Reconnecting…")
  show()
  socket = new WebSocket(socketAddress("/rooms"))
  socket.onopen = () => {
    tries = 0
    connection.show("open", "Open")
    for (const room of joined) send({join: room})
    joined.clear()
    show()
  }
  socket.onmessage = ({data}) => take(data)
  socket.onclose = ({code, reason}) => {
    giveUpWaiting()
    // What the server closes by a frame of its own would be closed again.
    if (code !== 1006) return closed(code === 1000 || code === 1005 ? "Closed" : `Closed with ${code} ${reason}`.trim())
    connection.show("reconnecting", "Reconnecting…")
    timer = setTimeout(connect, DELAYS_MS[Math.min(tries, DELAYS_MS.length - 1)])
    tries += 1
    show()
  }
}

function giveUpWaiting() {
  for (const {text, entry} of waiting.splice(0)) {
    entry.lost("Perhaps not sent: the connection was lost.")
    compose.giveBack(text)
  }
}

function closed(sentence) {
  joined.clear()
  tries = 0
  notice("")
  connection.show("closed", sentence)
  show()
}

function send(frame) {
  socket.send(JSON.stringify(frame))
}

function take(data) {
  const {joined: entered, left, refused, response, name, body} = read(data)
  notice("")
  if (entered !== undefined) {
    joined.add(entered)
    remark("Joined ", isolated(entered))
  } else if (left !== undefined) {
    joined.delete(left)
    remark("Left ", isolated(left))
  } else if (refused !== undefined) {
    notice(`Not joined: ${refused} (${response?.reason ?? JSON.stringify(response)})`)
  } else {
    const own = waiting.findIndex(({text}) => name === "rooms" && text === body)
    if (own < 0) received(data)
    else {
      waiting.splice(own, 1)[0].entry.remove()
      said(data)
    }
  }
  show()
}

/** What can be pressed follows from what is joined. */
function show() {
  const isOpen = connection.state === "open"
  const [join, leave] = element("room").querySelectorAll("button")
  const {value} = element("room").elements.room
  join.disabled = !isOpen || joined.has(value)
  leave.disabled = !isOpen || !joined.has(value)
  element("joined").value = [...joined].join(", ") || "nothing"

  const to = element("to")
  const chosen = to.value
  to.replaceChildren(...[...joined].map(room => new Option(room, room, false, room === chosen)))
  to.disabled = joined.size === 0
  if (joined.size === 0) to.append(new Option("no room", ""))
  const why = isOpen ? "Join a room to say something in it." : "There is no connection."
  compose.allow(isOpen && joined.size > 0, isOpen && joined.size > 0 ? "" : why)
}

function notice(sentence) {
  element("notice").textContent = sentence
  element("notice").hidden = sentence === ""
}

// The server acknowledges with objects; what members say need not be JSON.
function read(text) {
  try {
    return JSON.parse(text) ?? {}
  } catch {
    return {}
  }
}
