// The visitor's own messages, until it is known that they arrived: what may be lost stays in sight, with a way to send it
// again. A message is known by its id, which comes back with it.

/** Told by the lobby what becomes of messages, it shows each by `view`: `pending(body)`, `fate(entry, …)`. */
export class Sending {
  #waiting = new Map()
  #view
  #say

  /** `say(id, body)` sends, or returns false when that is not possible now. */
  constructor(view, say) {
    this.#view = view
    this.#say = say
  }

  send(body) {
    const id = newId()
    this.#waiting.set(id, {body, entry: this.#view.pending(body)})
    this.#say(id, body)
  }

  /** It has come back, so it was sent: what was shown in its place goes. */
  returned(id) {
    const entry = this.#waiting.get(id)?.entry
    this.#waiting.delete(id)
    entry?.remove()
    return entry !== undefined
  }

  /** The server has it; that it came back was missed, or is still to come. */
  sent(id) {
    const waiting = this.#waiting.get(id)
    if (waiting) this.#view.fate(waiting.entry, "")
  }

  unsent(id, sentence) {
    const waiting = this.#waiting.get(id)
    if (!waiting) return
    this.#view.fate(waiting.entry, "unsent", sentence, [
      ["Send again", () => this.#again(id)],
      ["Discard", () => this.returned(id)],
    ])
  }

  /** The connection is gone: what was not answered may not have arrived. */
  cut() {
    for (const id of this.#waiting.keys()) this.unsent(id, "Perhaps not sent: the connection was lost.")
  }

  #again(id) {
    const {body, entry} = this.#waiting.get(id)
    if (this.#say(id, body) !== false) this.#view.fate(entry, "pending", "Sending…")
  }
}

// Pages on plain HTTP have no crypto.randomUUID.
function newId() {
  return [...crypto.getRandomValues(new Uint8Array(8))].map(byte => byte.toString(16).padStart(2, "0")).join("")
}
