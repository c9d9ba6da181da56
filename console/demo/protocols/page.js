// What the pages share: where the server is, forms, and the list of messages.

const MESSAGES_MAX = 200

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

/** Adds a message, with its time, and forgets the oldest. */
export function addMessage(text) {
  const list = element("messages")
  const item = document.createElement("li")
  const time = document.createElement("time")
  time.textContent = new Date().toLocaleTimeString()
  item.append(time, " ", text)
  list.append(item)
  while (list.children.length > MESSAGES_MAX) list.firstChild.remove()
  item.scrollIntoView({block: "nearest"})
}
