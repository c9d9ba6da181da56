// The lobby page: binds the lobby (lobby.js) to the document. How things look is in view.js and app.css.

import {Lobby} from "./lobby.js"
import {firstName, isBlank, rememberName} from "./names.js"
import {Sending} from "./sending.js"
import {showStream} from "./stream.js"
import * as view from "./view.js"

const form = document.getElementById("compose")
const nameField = document.getElementById("name")
const bodyField = document.getElementById("body")
const toggle = document.getElementById("toggle")
const TICK_MS = 250
// What was missed follows the join without a pause.
const QUIET_MS = 400
const SEEN_MAX = 1000

let status = {state: "connecting"}
let node = null
let wasHere = false
let away = false
let back
const seen = new Set()
nameField.value = firstName()

const sending = new Sending({pending: body => view.addPending(lobby.name, body), fate: view.showFate}, (id, body) => {
  if (!lobby.joined) {
    view.showNotice("You are not in the lobby right now. Try again when you are back.")
    return false
  }
  view.hideNotice()
  lobby.say(id, body)
})

const lobby = new Lobby(nameField.value, chosenTransport(), {
  status(next) {
    status = next
    if (next.state !== "open") {
      node = null
      sending.cut()
    }
    if (next.state === "reconnecting" && wasHere && !away) {
      away = true
      view.remark("Connection lost")
    }
    if (next.state === "closed") {
      away = wasHere
      view.showPeople([], lobby.name)
    }
    showStatus()
  },
  joined({recovered, earlier, node: itsNode}) {
    node = itsNode
    showStatus()
    view.hideNotice()
    for (const message of wasHere ? [] : earlier) show(message)
    if (away) back = welcomeBack(recovered)
    wasHere = true
    away = false
  },
  trouble: view.showNotice,
  message: message => {
    if (!sending.returned(message.id)) back?.missed()
    show({at: Date.now(), ...message})
  },
  sent: id => sending.sent(id),
  unsent: (id, sentence) => sending.unsent(id, sentence),
  people: list => view.showPeople(list, lobby.name),
  arrived: name => name !== lobby.name && view.remarkOf(name, "came in"),
  departed: name => name !== lobby.name && view.remarkOf(name, "left"),
})

form.addEventListener("submit", event => {
  event.preventDefault()
  if (!takeName()) return
  const body = bodyField.value.trim()
  if (body === "") return
  if (!lobby.joined) return view.showNotice("You are not in the lobby right now. Your message stays here until you are back.")
  view.hideNotice()
  sending.send(body)
  bodyField.value = ""
})

nameField.addEventListener("change", takeName)
nameField.addEventListener("keydown", event => {
  if (event.key !== "Enter") return
  event.preventDefault()
  if (takeName()) bodyField.focus()
})

toggle.addEventListener("click", () => {
  if (status.state === "closed") lobby.connect()
  else lobby.disconnect()
})
document.getElementById("retry").addEventListener("click", () => lobby.retryNow())

for (const choice of document.getElementsByName("transport")) {
  choice.addEventListener("change", () => lobby.useTransport(chosenTransport()))
}

// A browser that says it is online again need not wait for the schedule.
window.addEventListener("online", () => status.state === "reconnecting" && lobby.retryNow())

view.showSample()
showStream(() => lobby.name)
lobby.connect()
// The countdown to the next attempt.
setInterval(() => status.state === "reconnecting" && showStatus(), TICK_MS)

/** Whether the field has a name that others can see; it is the visitor's from now on. */
function takeName() {
  const name = nameField.value.trim()
  nameField.setAttribute("aria-invalid", String(isBlank(name)))
  if (isBlank(name)) {
    view.showNotice("Your name needs at least one letter that others can see.")
    return false
  }
  view.hideNotice()
  nameField.value = name
  if (name !== lobby.name) {
    rememberName(name)
    lobby.rename(name)
  }
  return true
}

// A message that was sent again may come twice.
function show(message) {
  if (message.id !== undefined && seen.has(message.id)) return
  seen.add(message.id)
  if (seen.size > SEEN_MAX) seen.delete(seen.values().next().value)
  view.addMessage(message, message.name === lobby.name)
}

/** Says that the visitor is back, and how many messages that were missed have come since. */
function welcomeBack(recovered) {
  if (!recovered) return void view.remark("Back again: more was said than the server keeps")
  const remark = view.remark("Back again")
  let count = 0
  let timer
  const wait = () => {
    clearTimeout(timer)
    timer = setTimeout(() => {
      back = undefined
      if (count === 0) remark.change("Back again: you missed nothing")
    }, QUIET_MS)
  }
  wait()
  return {
    missed() {
      count += 1
      remark.change(`Back again: ${count} ${count === 1 ? "message" : "messages"} that you missed`)
      wait()
    },
  }
}

// The browser restores a changed radio button after a reload, so ask it rather than assume the default.
function chosenTransport() {
  return document.querySelector("input[name=transport]:checked").value
}

function showStatus() {
  view.showStatus(status, lobby.transport, node)
}
