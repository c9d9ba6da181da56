// The list of messages: it follows its end unless its reader has scrolled up. All text goes in as text nodes, never as
// markup, and each piece that somebody else wrote is isolated, so that text from right to left turns nothing around it.

const ENTRIES_MAX = 500

export class Log {
  #list
  #scrolled
  #empty
  #newer

  /** `frame` has the list, what is shown while it is empty, and the button that leads to what is new. */
  constructor(frame) {
    this.#scrolled = frame.querySelector(".log")
    this.#list = frame.querySelector("ol")
    this.#empty = frame.querySelector(".empty")
    this.#newer = frame.querySelector(".newer")
    this.#newer.addEventListener("click", () => this.#toEnd())
    let follows = true
    this.#scrolled.addEventListener("scroll", () => {
      follows = this.#atEnd()
      if (follows) this.#newer.hidden = true
    })
    // Where a keyboard on the screen takes half of the room, the end stays in sight.
    new ResizeObserver(() => follows && this.#toEnd()).observe(this.#scrolled)
  }

  /** Adds an entry, and goes to it if the reader was at the end, or if `follow` says so. */
  append(entry, follow = false) {
    const stay = !follow && !this.#atEnd()
    this.#empty.hidden = true
    this.#list.append(entry)
    while (this.#list.childElementCount > ENTRIES_MAX) this.#list.firstElementChild.remove()
    if (stay) this.#newer.hidden = false
    else this.#toEnd()
    return entry
  }

  /** A line about the room rather than from somebody in it. */
  remark(...what) {
    const entry = make("li", "remark")
    entry.append(make("span", "", ...what), timeOf(new Date()))
    return this.append(entry)
  }

  // A few pixels of slack: with a zoomed page the end is never met exactly.
  #atEnd() {
    const {scrollHeight, scrollTop, clientHeight} = this.#scrolled
    return scrollHeight - scrollTop - clientHeight < 40
  }

  #toEnd() {
    this.#scrolled.scrollTop = this.#scrolled.scrollHeight
    this.#newer.hidden = true
  }
}

/**
 * What becomes of a message of one's own: `pending`, or `unsent` with a sentence that says why. `actions` are pairs of a
 * label and what it does.
 */
export function showFate(entry, state, sentence, actions = []) {
  entry.classList.remove("pending", "unsent")
  entry.querySelector(".fate")?.remove()
  if (!state) return
  entry.classList.add(state)
  const fate = make("p", "fate", make("span", "", sentence))
  for (const [label, act] of actions) {
    const button = make("button", "", label)
    button.type = "button"
    button.addEventListener("click", act)
    fate.append(button)
  }
  entry.querySelector(".content").append(fate)
}

export function timeOf(date) {
  const time = make("time", "", date.toLocaleTimeString([], {hour: "2-digit", minute: "2-digit"}))
  time.dateTime = date.toISOString()
  time.title = date.toLocaleString()
  return time
}

/** What somebody wrote, isolated, with the direction that its first letters have. */
export function isolated(value) {
  const node = make("bdi", "", text(value))
  node.dir = "auto"
  return node
}

/** Other clients may put anything into a message; a number or an object is shown as JSON. */
export function text(value) {
  return typeof value === "string" ? value : JSON.stringify(value) ?? ""
}

// A live region that is set to the text it has already would be read out again.
export function setText(node, value) {
  if (node.textContent !== value) node.textContent = value
}

export function make(tag, className = "", ...content) {
  const node = document.createElement(tag)
  if (className) node.className = className
  node.append(...content)
  return node
}
