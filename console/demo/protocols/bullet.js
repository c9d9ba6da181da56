// The bridge page: what the original's page showed, by any of the three transports.

import {bullet} from "./bullet-client.js"
import {addMessage, element, onSubmit} from "./page.js"

let stream

onSubmit("connection", ({key, transport}) => {
  if (stream) {
    stream.close()
    stream = undefined
    return
  }
  element("toggle").textContent = "Close"
  element("state").value = "connecting"
  const opened = bullet(`${location.origin}/websocket?${encodeURIComponent(key)}`, transport)
  stream = opened
  opened.onopen = () => (element("state").value = `open (${transport})`)
  opened.ondisconnect = () => (element("state").value = "reconnecting")
  opened.onheartbeat = () => opened.send("ping")
  opened.onmessage = data => {
    if (data === "heartbeat message") {
      element("heartbeat").value = new Date().toLocaleTimeString()
      return
    }
    element("last").value = data
    addMessage(data)
  }
  opened.onclose = () => {
    element("state").value = "closed"
    element("toggle").textContent = "Connect"
  }
})

onSubmit("send", ({text}) => stream?.send(text))
