// Writes to the document what the lobby tells.

import {Log, isolated, make, setText, showFate, text, timeOf} from "./log.js"
import {avatar, named, showPeople} from "./people.js"

const TRANSPORT_NAMES = {websocket: "WebSocket", longpoll: "Long-poll"}

const element = id => document.getElementById(id)
const log = new Log(element("messages"))

/** `node` is which one of a cluster the page is on, if it was told. */
export function showStatus({state, nextTryAt}, transport, node) {
  element("state").dataset.state = state
  element("retry").hidden = state !== "reconnecting"
  setText(element("state-text"), statusText(state, nextTryAt, transport, node))
  setText(element("toggle"), state === "closed" ? "Connect" : "Disconnect")
}

/** `at` is when it was said, if that is known. */
export function addMessage({at, ...message}, own) {
  const {name, body = message} = message
  log.append(bubble(name, body, at, own), own)
}

/** The visitor's own message, before it is known to have arrived. */
export function addPending(name, body) {
  const entry = bubble(name, body, Date.now(), true)
  showFate(entry, "pending", "Sending…")
  return log.append(entry, true)
}

export {showFate, showPeople}

export function remarkOf(name, what) {
  log.remark(isolated(named(name)), ` ${what}`)
}

/** A remark that stands out; `change` says something else in its place. */
export function remark(what) {
  const entry = log.remark(what)
  entry.classList.add("weighty")
  return {change: sentence => setText(entry.firstElementChild, sentence)}
}

export function showNotice(message) {
  const notice = element("notice")
  setText(notice, message)
  notice.hidden = false
}

export function hideNotice() {
  element("notice").hidden = true
}

export function showSample() {
  const scheme = location.protocol === "https:" ? "wss" : "ws"
  element("sample").textContent = [
    "const socket = new Socket(",
    `  "${scheme}://${location.host}/socket")`,
    "socket.connect()",
    "const lobby = socket.channel(",
    '  "room:lobby", {name: "me"})',
    'lobby.on("new_msg",',
    "  m => console.log(m.body))",
    "lobby.join()",
    'lobby.push("new_msg", {body: "hi"})',
  ].join("\n")
}

function statusText(state, nextTryAt, transport, node) {
  switch (state) {
    case "open": return [`Connected · ${TRANSPORT_NAMES[transport]}`, node].filter(Boolean).join(" · ")
    case "closed": return "Disconnected"
    case "connecting": return "Connecting…"
    case "reconnecting": {
      const left = Math.ceil((nextTryAt - Date.now()) / 1000)
      return left > 0 ? `Reconnecting · next try in ${left} s` : "Reconnecting…"
    }
  }
}

function bubble(name, body, at, own) {
  const author = named(text(name ?? ""))
  const entry = make("li", own ? "message own" : "message")
  const head = make("p", "head", isolated(author))
  const date = new Date(at)
  if (Number.isFinite(at) && !Number.isNaN(date.getTime())) head.append(timeOf(date))
  const said = make("p", "text", text(body))
  said.dir = "auto"
  entry.append(avatar(author), make("div", "content", head, said))
  return entry
}
