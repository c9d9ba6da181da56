// ws, the way its README broadcasts: what a client of /{room} sends goes to everybody in the room.
//
// bufferutil is installed, as its README recommends; compression is off, as by default. Node has one thread.
import {WebSocketServer} from "ws"

const port = Number(process.argv[2])
const server = new WebSocketServer({host: "127.0.0.1", port, perMessageDeflate: false, clientTracking: false, backlog: 4096})
const rooms = new Map()

server.on("connection", (socket, request) => {
  const name = request.url
  let members = rooms.get(name)
  if (!members) rooms.set(name, (members = new Set()))
  members.add(socket)
  socket.on("message", (data, isBinary) => {
    for (const member of members) member.send(data, {binary: isBinary})
  })
  socket.on("close", () => {
    members.delete(socket)
    if (members.size === 0 && rooms.get(name) === members) rooms.delete(name)
  })
  socket.on("error", () => socket.terminate())
})
server.on("listening", () => console.log(`ws: listening on ws://127.0.0.1:${server.address().port}`))
process.on("SIGTERM", () => process.exit(0))
