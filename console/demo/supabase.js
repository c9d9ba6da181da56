// Cursors, and who is here: the stock client of Supabase Realtime, as an application would use it. Where a pointer is goes out as a broadcast, and who is
// here is presence.

import {RealtimeClient} from "@supabase/realtime-js"
import {isolated, make, setText} from "./log.js"
import {firstName, hueOf, isBlank, rememberName} from "./names.js"
import {named, showPeople} from "./people.js"

// The anon key that `supabase start` prints on every machine; `fanfare dev` takes it.
const KEY =
  "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzdXBhYmFzZS1kZW1vIiwicm9sZSI6ImFub24iLCJleHAiOjE5ODM4MTI5OTZ9.CRXP1A7WOeoJeXxjNni43kdQwgnWNReilDMblYTn_I0"
const SEND_EVERY_MS = 40
const STEP = 0.02
// What strangers send is shown as far as it makes sense, and of so many.
const CURSORS_MAX = 100
const NAME_MAX = 40
const ARROW = "M3 2l6.2 15 2.2-6 6-2.2z"

const element = id => document.getElementById(id)
const stage = element("stage")
const nameField = element("name")
const me = Array.from(crypto.getRandomValues(new Uint8Array(8)), byte => byte.toString(16).padStart(2, "0")).join("")
const cursors = new Map()
let name = firstName()
let place = {x: 0.5, y: 0.5}
let isIn = false
let timer
let sentAt = 0

nameField.value = name
const client = new RealtimeClient(`${location.origin.replace(/^http/, "ws")}/realtime/v1`, {params: {apikey: KEY}})
const room = client.channel("cursors", {config: {presence: {key: me}}})
room
  .on("broadcast", {event: "cursor"}, ({payload}) => show(payload))
  .on("presence", {event: "sync"}, sync)
  .subscribe(status => {
    isIn = status === "SUBSCRIBED"
    if (isIn) room.track({name})
    else clear()
    const shown = isIn ? ["open", "Connected · realtime-js"] : ["reconnecting", "Reconnecting…"]
    element("state").dataset.state = shown[0]
    setText(element("state-text"), shown[1])
  })

stage.addEventListener("pointermove", event => {
  remove(me)
  const {left, top, width, height} = stage.getBoundingClientRect()
  move((event.clientX - left) / width, (event.clientY - top) / height)
})
stage.addEventListener("pointerleave", () => {
  clearTimeout(timer)
  timer = undefined
  send({id: me, gone: true})
})
stage.addEventListener("keydown", event => {
  const step = {ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP]}[event.key]
  if (step === undefined) return
  event.preventDefault()
  move(place.x + step[0], place.y + step[1])
  // There is no pointer of the system's there.
  show({id: me, name, ...place})
})
nameField.addEventListener("change", rename)
nameField.addEventListener("keydown", event => event.key === "Enter" && rename())
showSample()

/** The visitor's pointer is there; others are told as often as it can be seen. */
function move(x, y) {
  place = {x: within(x), y: within(y)}
  if (timer !== undefined) return
  timer = setTimeout(() => {
    timer = undefined
    sentAt = Date.now()
    send({id: me, name, ...place})
  }, Math.max(0, sentAt + SEND_EVERY_MS - Date.now()))
}

function send(payload) {
  if (isIn) room.send({type: "broadcast", event: "cursor", payload})
}

function rename() {
  const wanted = nameField.value.trim()
  const bad = isBlank(wanted)
  nameField.setAttribute("aria-invalid", String(bad))
  setText(element("notice"), bad ? "Your name needs at least one letter that others can see." : "")
  element("notice").hidden = !bad
  if (bad || wanted === name) return
  name = wanted
  rememberName(name)
  if (isIn) room.track({name})
}

/** Those who are here, under their names; pointers of others go. */
function sync() {
  const here = room.presenceState()
  const people = new Map()
  for (const metas of Object.values(here)) {
    const itsName = text(metas.at(-1)?.name)
    people.set(itsName, (people.get(itsName) ?? 0) + 1)
  }
  showPeople([...people].map(([itsName, count]) => ({name: itsName, count, nodes: []})), name)
  for (const id of cursors.keys()) if (id !== me && !Object.hasOwn(here, id)) remove(id)
}

function show(payload) {
  const {id, x, y, gone} = payload ?? {}
  if (typeof id !== "string") return
  if (gone === true || !Number.isFinite(x) || !Number.isFinite(y)) return remove(id)
  if (!cursors.has(id) && cursors.size >= CURSORS_MAX) return
  const cursor = cursors.get(id) ?? make("div", "cursor")
  if (!cursors.has(id)) {
    cursors.set(id, cursor)
    cursor.append(arrow(), isolated(""))
    element("cursors").append(cursor)
  }
  const itsName = named(text(payload.name))
  setText(cursor.lastElementChild, itsName)
  cursor.style.setProperty("--hue", hueOf(itsName))
  cursor.style.setProperty("--x", within(x))
  cursor.style.setProperty("--y", within(y))
  element("stage-help").hidden = true
}

function remove(id) {
  cursors.get(id)?.remove()
  cursors.delete(id)
  element("stage-help").hidden = cursors.size > 0
}

function clear() {
  for (const id of cursors.keys()) remove(id)
}

function arrow() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg")
  svg.setAttribute("viewBox", "0 0 20 20")
  svg.setAttribute("aria-hidden", "true")
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path")
  path.setAttribute("d", ARROW)
  svg.append(path)
  return svg
}

function text(value) {
  return typeof value === "string" ? value.slice(0, NAME_MAX) : ""
}

function within(share) {
  return Math.min(1, Math.max(0, share))
}

function showSample() {
  element("sample").textContent = [
    "const supabase = createClient(",
    `  "${location.origin}", ANON_KEY)`,
    "const room =",
    '  supabase.channel("cursors")',
    'room.on("broadcast", {event: "cursor"},',
    "  ({payload}) => console.log(payload))",
    "room.subscribe()",
  ].join("\n")
}
