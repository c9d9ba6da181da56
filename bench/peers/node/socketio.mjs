// Socket.IO with the events `join` (room), answered by `joined`, and `msg` (room, payload).
//
// As its page on performance recommends: bufferutil is installed, the requests of the handshake are not kept; WebSocket
// only, compression off (the default).
import {createServer} from "node:http"
import {Server} from "socket.io"

const port = Number(process.argv[2])
const http = createServer()
const io = new Server(http, {transports: ["websocket"], perMessageDeflate: false, serveClient: false})

io.engine.on("connection", socket => {
  socket.request = null
})
io.on("connection", socket => {
  socket.on("join", room => {
    socket.join(room)
    socket.emit("joined")
  })
  socket.on("msg", (room, payload) => {
    io.to(room).emit("msg", payload)
  })
})
http.listen({host: "127.0.0.1", port, backlog: 4096}, () => {
  console.log(`socketio: listening on http://127.0.0.1:${http.address().port}`)
})
process.on("SIGTERM", () => process.exit(0))
