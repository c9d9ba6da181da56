// The rooms page: one socket, the frames of the protocol, and what comes back.

import {addMessage, element, onSubmit, socketAddress} from "./page.js"

const socket = new WebSocket(socketAddress("/rooms"))
const joined = new Set()
let room

socket.onopen = () => (element("state").value = "open")
socket.onclose = ({code, reason}) => (element("state").value = `closed with ${code} ${reason}`.trim())
socket.onmessage = ({data}) => {
  const frame = JSON.parse(data)
  if (frame?.joined) joined.add(frame.joined)
  else if (frame?.left) joined.delete(frame.left)
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
