// The hub page: a publisher and a subscriber, which know nothing of each other.

import {Compose, Control, received, remark, said, socketAddress} from "./page.js"

// What was published in the last moments before a connection broke may be lost: nobody acknowledges it.
const DOUBTFUL_MS = 60_000

let publishing, subscribing
let recent = []

const publisher = new Control("publisher", ["Start", "Stop"], {
  begin({key, domain, topic}) {
    publishing = connect(publisher, `/ws/pub/${[key, domain, topic].map(encodeURIComponent).join("/")}`, {
      refused: "Refused: the topic has a publisher, or the key is not accepted",
      ended: reviewSent,
    })
  },
  end: () => publishing.close(1000),
})

const subscriber = new Control("subscriber", ["Subscribe", "Unsubscribe"], {
  begin({domain, topic}) {
    subscribing = connect(subscriber, `/ws/sub/${[domain, topic].map(encodeURIComponent).join("/")}`, {
      refused: "Refused: nobody has started this topic",
      ended: code => code !== 1005 && remark("The subscription has ended"),
    })
    subscribing.addEventListener("message", ({data}) => received(typeof data === "string" ? data : `${data.size} bytes`))
  },
  end: () => subscribing.close(1000),
})

const compose = new Compose(({text}) => {
  if (publishing?.readyState !== WebSocket.OPEN) return false
  publishing.send(text)
  recent.push({at: Date.now(), text, entry: said(text)})
  recent = recent.filter(({at}) => Date.now() - at < DOUBTFUL_MS)
})
allow()

function connect(control, path, {refused, ended}) {
  const socket = new WebSocket(socketAddress(path))
  let wasOpen = false
  control.show("connecting", "Connecting…")
  allow()
  socket.onopen = () => {
    wasOpen = true
    control.show("open", "Open")
    allow()
  }
  socket.onclose = ({code, reason, wasClean}) => {
    if (wasOpen) control.show("closed", sentence(code, reason))
    else control.show("refused", refused)
    allow()
    if (wasOpen) ended(code, wasClean)
  }
  return socket
}

function allow() {
  compose.allow(publisher.state === "open", publisher.state === "open" ? "" : "Start the publisher to publish something.")
}

function reviewSent(_, wasClean) {
  for (const {at, entry} of wasClean ? [] : recent) {
    if (Date.now() - at < DOUBTFUL_MS) entry.lost("Perhaps not sent: the connection was lost.")
  }
  recent = []
}

function sentence(code, reason) {
  if (code === 1005 || code === 1000) return reason ? `Closed: ${reason}` : "Closed"
  if (code === 1006) return "Closed: the connection was lost"
  return `Closed with ${code} ${reason}`.trim()
}
