// What the pages share: where the server is, forms, how connections are shown, and the messages.

import {Log, isolated, make, setText, showFate, timeOf} from "../log.js"

const log = new Log(element("messages"))

/** The address of a WebSocket at `path` on this server. */
export function socketAddress(path) {
  return `${location.origin.replace(/^http/, "ws")}${path}`
}

/** The element with this id. */
export function element(id) {
  return document.getElementById(id)
}

/** Calls `act` with the form's data instead of sending it anywhere. */
export function onSubmit(id, act) {
  element(id).addEventListener("submit", event => {
    event.preventDefault()
    act(Object.fromEntries(new FormData(event.target, event.submitter)), event.target)
  })
}

/** A form that begins a connection with what its fields say, and ends it. Meanwhile the fields stand still. */
export class Control {
  state = "closed"
  #form
  #labels

  /** `labels` are those of its button while it is closed, and else. */
  constructor(id, labels, {begin, end}) {
    this.#form = element(id)
    this.#labels = labels
    onSubmit(id, fields => (this.isClosed ? begin(fields) : end()))
    this.show("closed", "Closed")
  }

  get isClosed() {
    return ["closed", "refused"].includes(this.state)
  }

  /** A `state` as the style knows them, and what it means here. */
  show(state, sentence) {
    this.state = state
    showState(this.#form.querySelector(".state"), state, sentence)
    setText(this.#form.querySelector("button"), this.#labels[this.isClosed ? 0 : 1])
    for (const field of this.#form.querySelectorAll("input")) field.readOnly = !this.isClosed
    for (const field of this.#form.querySelectorAll("select")) field.disabled = !this.isClosed
  }
}

export function showState(pill, state, sentence) {
  pill.dataset.state = state
  const output = pill.querySelector("output")
  if (output.value !== sentence) output.value = sentence
}

/** The form below the messages; `send` is called with its text. What is not sent stays in it. */
export class Compose {
  #form = element("say")

  constructor(send) {
    onSubmit("say", fields => {
      if (fields.text === "" || this.#button.disabled) return
      if (send(fields) !== false) this.#form.elements.text.value = ""
    })
  }

  /** Whether there is somewhere to send to, and otherwise why not. */
  allow(allowed, hint = "") {
    this.#button.disabled = !allowed
    setText(element("hint"), hint)
    element("hint").hidden = hint === ""
  }

  /** Gives a text back to the visitor, unless there is a new one. */
  giveBack(text) {
    if (this.#form.elements.text.value === "") this.#form.elements.text.value = text
  }

  get #button() {
    return this.#form.querySelector("button")
  }
}

/** Adds a message that came. */
export function received(text) {
  log.append(bubble("message", text))
}

/** Adds one's own; what is returned says what became of it. */
export function said(text, sentence) {
  const entry = bubble("message own", text)
  if (sentence) showFate(entry, "pending", sentence)
  log.append(entry, true)
  return {
    arrived: () => showFate(entry, ""),
    lost: why => showFate(entry, "unsent", why),
    remove: () => entry.remove(),
  }
}

/** Adds a line about the connection. */
export function remark(...what) {
  log.remark(...what)
}

export {isolated, make}

function bubble(kind, text) {
  const said = make("p", "text", text)
  said.dir = "auto"
  return make("li", kind, make("div", "content", make("p", "head", timeOf(new Date())), said))
}
