// Writes to the document. All text from the network goes in as text nodes, never as markup.

import {hueOf, initialsOf} from "./names.js"

const LOG_ENTRIES_MAX = 500
const TRANSPORT_NAMES = {websocket: "WebSocket", longpoll: "Long-poll"}

const element = id => document.getElementById(id)
const log = element("log")
const entries = element("entries")
const newer = element("newer")

export function showStatus({state, nextTryAt}, transport) {
  element("state").dataset.state = state
  element("retry").hidden = state !== "reconnecting"
  setText(element("state-text"), statusText(state, nextTryAt, transport))
  setText(element("toggle"), state === "closed" ? "Connect" : "Disconnect")
}

export function addMessage(name, body, own) {
  const author = text(name ?? "somebody")
  const entry = make("li", own ? "message own" : "message")
  const content = make("div", "content")
  const head = make("p", "head")
  head.append(make("strong", "", author), timeNow())
  content.append(head, make("p", "text", text(body)))
  entry.append(avatar(author), content)
  append(entry, own)
}

/** A line about the room rather than from somebody in it. */
export function remark(what) {
  const entry = make("li", "remark")
  entry.append(make("span", "", what), timeNow())
  append(entry, false)
}

export function showPeople(list, ownName) {
  const sorted = [...list].sort((a, b) => (b.name === ownName) - (a.name === ownName) || a.name.localeCompare(b.name))
  setText(element("people-count"), String(list.length))
  element("people").replaceChildren(...sorted.map(({name, count}) => {
    const item = make("li")
    item.append(avatar(name), make("span", "who", name))
    if (name === ownName) item.append(make("span", "tag", "you"))
    if (count > 1) {
      const times = make("span", "tag", `×${count}`)
      times.title = `${count} connections`
      item.append(times)
    }
    return item
  }))
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

newer.addEventListener("click", () => scrollToEnd())
log.addEventListener("scroll", () => {
  if (atEnd()) newer.hidden = true
})

function statusText(state, nextTryAt, transport) {
  switch (state) {
    case "open": return `Connected · ${TRANSPORT_NAMES[transport]}`
    case "closed": return "Disconnected"
    case "connecting": return "Connecting…"
    case "reconnecting": {
      const left = Math.ceil((nextTryAt - Date.now()) / 1000)
      return left > 0 ? `Reconnecting · next try in ${left} s` : "Reconnecting…"
    }
  }
}

function append(entry, follow) {
  const stay = !follow && !atEnd()
  element("empty").hidden = true
  entries.append(entry)
  while (entries.childElementCount > LOG_ENTRIES_MAX) entries.firstElementChild.remove()
  if (stay) newer.hidden = false
  else scrollToEnd()
}

// A few pixels of slack: with a zoomed page the end is never met exactly.
function atEnd() {
  return log.scrollHeight - log.scrollTop - log.clientHeight < 40
}

function scrollToEnd() {
  log.scrollTop = log.scrollHeight
  newer.hidden = true
}

function avatar(name) {
  const mark = make("span", "avatar", initialsOf(name))
  mark.style.setProperty("--hue", hueOf(name))
  mark.setAttribute("aria-hidden", "true")
  return mark
}

function timeNow() {
  const now = new Date()
  const time = make("time", "", now.toLocaleTimeString([], {hour: "2-digit", minute: "2-digit"}))
  time.dateTime = now.toISOString()
  time.title = now.toLocaleString()
  return time
}

// Other clients may put anything into a message; a number or an object is shown as JSON.
function text(value) {
  return typeof value === "string" ? value : JSON.stringify(value) ?? ""
}

// A live region that is set to the text it has already would be read out again.
function setText(node, value) {
  if (node.textContent !== value) node.textContent = value
}

function make(tag, className = "", content = "") {
  const node = document.createElement(tag)
  if (className) node.className = className
  if (content) node.textContent = content
  return node
}
