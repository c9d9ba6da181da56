// A topic as a stream over plain HTTP, read as EventSource reads it or by JSON lines, and opened again for ever.

import {sleep} from "./deadline.mjs"
import {linesOf} from "./lines.mjs"

const REOPEN_MS = 50

/** How a stream is asked for behind a position, and what a line of it is. */
const FORMATS = {
  events: {
    request: (url, position) => [url, {accept: "text/event-stream", ...(position && {"last-event-id": position})}],
    reader: eventsReader,
  },
  lines: {
    request: (url, position) => [position ? `${url}?since=${position}` : url, {}],
    reader: () => line => line && JSON.parse(line),
  },
}

export class Stream {
  /** Behind which message it stands. */
  position = null
  format = "events"
  #url
  #onEvent
  #isOver = false
  #connection

  /** Opens the stream at `url`; `onEvent` gets `{event, payload, position}`. */
  constructor(url, onEvent) {
    this.#url = url
    this.#onEvent = onEvent
    this.#follow()
  }

  /** Goes on in another format, `events` or `lines`. */
  reopen(format) {
    this.format = format
    this.#connection.abort()
  }

  end() {
    this.#isOver = true
    this.#connection.abort()
  }

  async #follow() {
    while (!this.#isOver) {
      this.#connection = new AbortController()
      // Whatever ends a connection, another one follows.
      await this.#read(this.#connection.signal).catch(() => {})
      await sleep(REOPEN_MS)
    }
  }

  async #read(signal) {
    const {request, reader} = FORMATS[this.format]
    const [url, headers] = request(this.#url, this.position)
    const response = await fetch(url, {headers, signal})
    if (!response.ok) return
    const read = reader()
    for await (const line of linesOf(response.body)) {
      const event = !signal.aborted && read(line)
      if (!event) continue
      this.position = event.position
      this.#onEvent(event)
    }
  }
}

/** Takes the lines of server-sent events, and returns an event at its end. */
function eventsReader() {
  let fields = {}
  return line => {
    if (line !== "") {
      const [, name, value] = line.match(/^([^:]*):? ?(.*)$/)
      fields[name] = name === "data" && fields.data !== undefined ? `${fields.data}\n${value}` : value
      return null
    }
    const {id, event, data} = fields
    fields = {}
    return data === undefined ? null : {event, payload: JSON.parse(data), position: id}
  }
}
