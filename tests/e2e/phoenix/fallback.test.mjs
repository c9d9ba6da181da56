// The client's fall back to long-polling when its WebSocket does not get through.

import assert from "node:assert/strict"
import {answer} from "../support/clients.mjs"
import {checks} from "../support/check.mjs"
import {sleep} from "../support/deadline.mjs"
import {startProxy} from "../support/proxy.mjs"

const REMEMBERED = "phx:fallback:LongPoll"
// Each case chooses both transports itself, so one row of the table for each version is enough.
const ONCE = {on: ({transport}) => transport === "websocket"}

checks("fallback", check => {
  check("a WebSocket that is refused falls back, and that is remembered", ONCE, async visit => {
    const sessionStorage = new MemoryStorage()
    const Refused = class WebSocket extends visit.WebSocket {
      constructor(url, protocols) {
        super(url.replace("/socket/", "/nowhere/"), protocols)
      }
    }
    const socket = visit.connect({transport: Refused, longPollFallbackMs: 2_500, sessionStorage})
    assert.equal(await transportOf(visit, socket), "longpoll")
    assert.equal(sessionStorage.getItem(REMEMBERED), "true")
    // The next socket of the session does not even try.
    const next = visit.connect({transport: visit.WebSocket, longPollFallbackMs: 2_500, sessionStorage})
    assert.equal(await transportOf(visit, next), "longpoll")
  })

  check("a WebSocket that gets no answer falls back when the time is up", ONCE, async visit => {
    const silent = await startProxy(visit.server.port)
    silent.silence()
    const Silent = class WebSocket extends visit.WebSocket {
      constructor(url, protocols) {
        super(url.replace(`:${visit.server.port}/`, `:${silent.port}/`), protocols)
      }
    }
    const socket = visit.connect({transport: Silent, longPollFallbackMs: 300, sessionStorage: new MemoryStorage()})
    assert.equal(await transportOf(visit, socket), "longpoll")
    await silent.close()
  })

  check("a WebSocket that works stays", ONCE, async visit => {
    const sessionStorage = new MemoryStorage()
    const socket = visit.connect({longPollFallbackMs: 300, sessionStorage})
    assert.equal(await transportOf(visit, socket), "websocket")
    await sleep(600)
    assert.equal(await transportOf(visit, socket), "websocket")
    assert.equal(sessionStorage.getItem(REMEMBERED), null)
  })
})

async function transportOf(visit, socket) {
  const channel = await visit.join(visit.topic(), {socket})
  const {response} = await answer(channel.push("assigns", {}))
  return response.transport
}

class MemoryStorage {
  #items = new Map()

  getItem(key) {
    return this.#items.get(key) ?? null
  }

  setItem(key, value) {
    this.#items.set(key, value)
  }
}
