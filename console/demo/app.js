// The lobby page: binds the lobby (lobby.js) to the document. How things look is in view.js and app.css.

import {Lobby} from "./lobby.js"
import {firstName, rememberName} from "./names.js"
import * as view from "./view.js"

const form = document.getElementById("compose")
const nameField = document.getElementById("name")
const bodyField = document.getElementById("body")
const toggle = document.getElementById("toggle")
const TICK_MS = 250

let status = {state: "connecting"}
let wasCut = false
nameField.value = firstName()

const lobby = new Lobby(nameField.value, chosenTransport(), {
  status(next) {
    status = next
    if (next.state === "reconnecting" && !wasCut) {
      wasCut = true
      view.remark("Connection lost")
    }
    if (next.state === "closed") view.showPeople([], lobby.name)
    showStatus()
  },
  joined() {
    view.hideNotice()
    if (wasCut) view.remark("Back again: what was said meanwhile is not shown")
    wasCut = false
  },
  trouble: view.showNotice,
  message: ({name, body}) => view.addMessage(name, body, name === lobby.name),
  people: list => view.showPeople(list, lobby.name),
  arrived: name => name !== lobby.name && view.remark(`${name} came in`),
  departed: name => name !== lobby.name && view.remark(`${name} left`),
})

form.addEventListener("submit", event => {
  event.preventDefault()
  takeName()
  const body = bodyField.value.trim()
  if (body === "") return
  if (!lobby.joined) return view.showNotice("You are not in the lobby right now. Your message stays here until you are back.")
  view.hideNotice()
  lobby.say(body)
  bodyField.value = ""
})

nameField.addEventListener("change", takeName)
nameField.addEventListener("keydown", event => {
  if (event.key !== "Enter") return
  event.preventDefault()
  takeName()
  bodyField.focus()
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
lobby.connect()
// The countdown to the next attempt.
setInterval(() => status.state === "reconnecting" && showStatus(), TICK_MS)

function takeName() {
  const name = nameField.value.trim() || lobby.name
  nameField.value = name
  if (name === lobby.name) return
  rememberName(name)
  lobby.rename(name)
}

// The browser restores a changed radio button after a reload, so ask it rather than assume the default.
function chosenTransport() {
  return document.querySelector("input[name=transport]:checked").value
}

function showStatus() {
  view.showStatus(status, lobby.transport)
}
