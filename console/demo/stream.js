// The lobby's topic as an event stream, read by the browser's own EventSource; and the command that does it in a shell.

import {make, setText} from "./log.js"

const EVENTS_MAX = 4
const EVENTS = ["joined", "new_msg", "presence_state", "presence_diff"]
const element = id => document.getElementById(id)
const toggle = element("stream-toggle")
let source

/** The card is for a visitor whose name `nameOf` tells. */
export function showStream(nameOf) {
  element("curl").textContent = command()
  element("copy").addEventListener("click", copy)
  toggle.addEventListener("click", () => (source ? close() : open(nameOf())))
}

function open(name) {
  source = new EventSource(`/events/room:lobby?params[name]=${encodeURIComponent(name)}`)
  show("connecting", "Connecting…")
  setText(toggle, "Stop reading")
  source.onopen = () => show("open", "Open")
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) close("Ended by the server")
    else show("reconnecting", "Reconnecting…")
  }
  for (const event of EVENTS) source.addEventListener(event, ({data}) => add(event, data))
}

function close(why = "Closed") {
  source.close()
  source = undefined
  show("closed", why)
  setText(toggle, "Read it here")
}

function add(event, data) {
  const list = element("stream-events")
  const line = make("li", "", make("b", "", event), " ", make("bdi", "", data))
  line.title = data
  list.append(line)
  while (list.childElementCount > EVENTS_MAX) list.firstElementChild.remove()
}

function show(state, sentence) {
  element("stream-state").dataset.state = state
  setText(element("stream-text"), sentence)
}

async function copy() {
  const button = element("copy")
  // Pages on plain HTTP, other than those of this machine, have no clipboard.
  const copied = await navigator.clipboard?.writeText(command()).then(() => true, () => false)
  if (!copied) getSelection().selectAllChildren(element("curl"))
  setText(button, copied ? "Copied" : "Selected")
  setTimeout(() => setText(button, "Copy"), 2000)
}

function command() {
  return `curl -gN '${location.origin}/events/room:lobby?params[name]=curl'`
}
