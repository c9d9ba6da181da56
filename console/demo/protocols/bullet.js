// The bridge page: what the original's page showed, by any of the three transports.

import {bullet} from "./bullet-client.js"
import {Compose, Control, element, received, said} from "./page.js"

const NAMES = {websocket: "WebSocket", eventsource: "server-sent events", xhrPolling: "polls"}
// What was sent by WebSocket in the last moments before the connection broke may be lost: only some texts are answered.
const DOUBTFUL_MS = 60_000
const ANSWERS = ["heartbeat message", "status checked"]

let stream
let recent = []

const connection = new Control("connection", ["Connect", "Close"], {
  begin({key, transport}) {
    connection.transport = transport
    connection.show("connecting", "Connecting…")
    const opened = bullet(`${location.origin}/websocket?${encodeURIComponent(key)}`, transport)
    stream = opened
    opened.onopen = () => show("open", `Open by ${NAMES[transport]}`)
    opened.ondisconnect = () => {
      reviewSent()
      show("reconnecting", "Reconnecting…")
    }
    // One that is not sent is followed by the next.
    opened.onheartbeat = () => opened.send("ping").catch(() => {})
    opened.onmessage = data => {
      // What came before the text that this answers has arrived as well.
      if (ANSWERS.includes(data)) recent = []
      if (data === "heartbeat message") {
        element("heartbeat").value = new Date().toLocaleTimeString()
        return
      }
      element("last").value = data
      received(data)
    }
    opened.onclose = () => show("closed", "Closed")
  },
  end() {
    stream.close()
    stream = undefined
  },
})

const compose = new Compose(({text}) => {
  if (connection.state !== "open") return false
  const entry = said(text, "Sending…")
  stream.send(text).then(
    () => {
      entry.arrived()
      if (connection.transport === "websocket") recent.push({at: Date.now(), text, entry})
    },
    () => {
      entry.lost("Not sent: the connection was lost.")
      compose.giveBack(text)
    },
  )
})
show("closed", "Closed")
element("say").elements.text.value = "status"

function reviewSent() {
  for (const {at, text, entry} of recent) {
    if (Date.now() - at > DOUBTFUL_MS) continue
    entry.lost("Perhaps not sent: the connection was lost.")
    compose.giveBack(text)
  }
  recent = []
}

function show(state, sentence) {
  connection.show(state, sentence)
  compose.allow(state === "open", state === "open" ? "" : "Connect to send something.")
}
