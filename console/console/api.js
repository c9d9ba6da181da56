// The HTTP API, by the session of this browser.

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message)
    this.status = status
    this.code = code
  }
}

// Told when the session has ended.
let onEnd = () => {}
export const whenSessionEnds = told => { onEnd = told }

export async function ask(path, {method = "GET", body} = {}) {
  const headers = method === "GET" ? {} : {"content-type": "application/json"}
  let answer
  try {
    answer = await fetch(path, {method, headers, body: body === undefined ? undefined : JSON.stringify(body)})
  } catch {
    throw new ApiError(0, "unreachable", "The server does not answer.")
  }
  const told = await answer.json().catch(() => ({}))
  if (answer.ok) return told
  if (answer.status === 401 && path !== "/api/session") onEnd()
  throw new ApiError(answer.status, told.error?.code, told.error?.message ?? `The server answers ${answer.status}.`)
}

export const query = fields => {
  const given = Object.entries(fields).filter(([, value]) => value !== "" && value !== undefined && value !== null)
  return given.length ? `?${new URLSearchParams(given)}` : ""
}

// A stream of events. `told` gets each, `state` whether it is there: "open", or since when it is not.
export function listen(path, event, told, state) {
  let source
  let timer
  let lost
  const open = () => {
    source = new EventSource(path)
    source.addEventListener("open", () => {
      lost = undefined
      state("open")
    })
    source.addEventListener(event, message => told(JSON.parse(message.data)))
    source.addEventListener("error", () => {
      lost ??= new Date()
      state(lost)
      if (source.readyState !== EventSource.CLOSED) return
      // The browser has given up: the session may have ended, or too many watch.
      ask("/api/session").catch(error => error.status === 401 && onEnd())
      timer = setTimeout(open, 3000)
    })
  }
  open()
  return () => {
    clearTimeout(timer)
    source.close()
  }
}
