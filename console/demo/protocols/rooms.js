// The rooms page: one socket, the frames of the protocol, and what comes back.

import {addMessage, element, onSubmit, socketAddress} from "./page.js"

const socket = new WebSocket(socketAddress("/rooms"))
const joined = new Set()
let room

socket.onopen = () => (element("state").value = "open")
socket.onclose = ({code, reason}) => (element("state").value = `closed with ${code} ${reason}`.trim())
socket.onmessage = ({data}) => {
  const {joined: entered, left} = said(data)
  if (entered) joined.add(entered)
  else if (left) joined.delete(left)
  else addMessage(data)
  element("joined").value = [...joined].join(", ") || "nothing"
}

onSubmit("room", ({room: name, action}) => {
  room = name
  socket.send(JSON.stringify({[action]: name}))
})

onSubmit("say", ({text}, form) => {
  if (!joined.has(room)) return
  socket.send(JSON.stringify({say: {name: "rooms", body: text}, to: room}))
  form.reset()
})

// The server acknowledges with objects; what members say need not be JSON.
function said(text) {
  try {
    return JSON.parse(text) ?? {}
  } catch {
    return {}
  }
}
