// A client of bullet.js's protocol, without jQuery: one of its three transports, reconnected until it is closed. Code that
// uses bullet.js itself works as it is; that library is in no package registry, which is why this page has its own.

const DELAY_MIN_MS = 80
const DELAY_MAX_MS = 10_000
const HEARTBEAT_MS = 20_000
const POLL_PAUSE_MS = 100

/** Opens a stream to `url` by `websocket`, `eventsource` or `xhrPolling`. */
export function bullet(url, transport) {
  const stream = new Stream(url, TRANSPORTS[transport])
  stream.connect()
  return stream
}

class Stream {
  onopen = () => {}
  onmessage = () => {}
  ondisconnect = () => {}
  onclose = () => {}
  onheartbeat = () => {}
  #url
  #open
  #connection
  #heartbeat
  #delay = DELAY_MIN_MS
  #isClosed = false

  constructor(url, open) {
    this.#url = url
    this.#open = open
  }

  connect() {
    this.#connection = this.#open(this.#url, {
      opened: () => {
        this.#delay = DELAY_MIN_MS
        clearInterval(this.#heartbeat)
        this.#heartbeat = setInterval(() => this.onheartbeat(), HEARTBEAT_MS)
        this.onopen()
        this.onheartbeat()
      },
      received: data => this.onmessage(data),
      lost: () => this.#lost(),
    })
  }

  /** Fails where it is known that the text did not arrive. */
  send(text) {
    return this.#connection.send(text)
  }

  close() {
    this.#isClosed = true
    clearInterval(this.#heartbeat)
    this.#connection.close()
    this.onclose()
  }

  #lost() {
    if (this.#isClosed) return
    clearInterval(this.#heartbeat)
    this.ondisconnect()
    this.#delay = Math.min(2 * this.#delay, DELAY_MAX_MS)
    setTimeout(() => this.#isClosed || this.connect(), this.#delay)
  }
}

const TRANSPORTS = {websocket, eventsource, xhrPolling}

function websocket(url, {opened, received, lost}) {
  const socket = new WebSocket(url.replace(/^http/, "ws"))
  socket.onopen = opened
  socket.onmessage = ({data}) => received(data)
  socket.onclose = lost
  return {
    // Nothing tells whether a WebSocket's message arrived, but that there is none any more is known.
    send: async text => {
      if (socket.readyState !== WebSocket.OPEN) throw new Error("not connected")
      socket.send(text)
    },
    close: () => socket.close(),
  }
}

function eventsource(url, {opened, received, lost}) {
  const source = new EventSource(url)
  source.onopen = opened
  source.onmessage = ({data}) => received(data)
  source.onerror = () => {
    source.close()
    lost()
  }
  return {send: text => post(url, text, received), close: () => source.close()}
}

function xhrPolling(url, {opened, received, lost}) {
  const abort = new AbortController()
  let isOpen = false
  const poll = async () => {
    try {
      const answer = await fetch(url, {cache: "no-store", headers: {"X-Socket-Transport": "xhrPolling"}, signal: abort.signal})
      if (!answer.ok) throw new Error(`status ${answer.status}`)
      const data = await answer.text()
      if (data) received(data)
      setTimeout(poll, POLL_PAUSE_MS)
    } catch {
      if (!abort.signal.aborted) lost()
    }
  }
  // The first poll is answered by the first message only; a post says sooner whether the key is accepted.
  post(url, "status", () => {
    isOpen = true
    opened()
  }).catch(() => {}).then(() => isOpen || lost())
  poll()
  return {send: text => post(url, text, received), close: () => abort.abort()}
}

async function post(url, text, received) {
  const headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8", "X-Socket-Transport": "xhrPolling"}
  const answer = await fetch(url, {method: "POST", body: text, headers})
  const data = await answer.text()
  if (!answer.ok) throw new Error(`status ${answer.status}`)
  if (data) received(data)
}
