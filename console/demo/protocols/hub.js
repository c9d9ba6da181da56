// The hub page: a publisher and a subscriber, which know nothing of each other.

import {addMessage, element, onSubmit, socketAddress} from "./page.js"

let publisher, subscriber

onSubmit("publisher", ({key, domain, topic}) => {
  publisher = toggle(publisher, `/ws/pub/${[key, domain, topic].map(encodeURIComponent).join("/")}`, {
    state: "publisher-state",
    button: ["publish-toggle", "Start", "Stop"],
    refused: "refused: the topic has a publisher, or the key is not accepted",
  })
})

onSubmit("say", ({text}, form) => {
  if (publisher?.readyState !== WebSocket.OPEN) return
  publisher.send(text)
  form.reset()
})

onSubmit("subscriber", ({domain, topic}) => {
  subscriber = toggle(subscriber, `/ws/sub/${[domain, topic].map(encodeURIComponent).join("/")}`, {
    state: "subscriber-state",
    button: ["subscribe-toggle", "Subscribe", "Unsubscribe"],
    refused: "refused: nobody has started this topic",
  })
  subscriber?.addEventListener("message", ({data}) => addMessage(typeof data === "string" ? data : `${data.size} bytes`))
})

/** Closes an open socket, or opens one. */
function toggle(open, path, {state, button: [button, closedLabel, openLabel], refused}) {
  if (open) {
    open.close()
    return undefined
  }
  const socket = new WebSocket(socketAddress(path))
  let wasOpen = false
  element(state).value = "connecting"
  socket.onopen = () => {
    wasOpen = true
    element(state).value = "open"
    element(button).textContent = openLabel
  }
  socket.onclose = ({code, reason}) => {
    element(state).value = wasOpen ? `closed with ${code} ${reason}`.trim() : refused
    element(button).textContent = closedLabel
    if (socket === publisher) publisher = undefined
    if (socket === subscriber) subscriber = undefined
  }
  return socket
}
