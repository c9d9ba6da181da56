// As much of XMLHttpRequest as version 1.7 of the client uses, for Node, where there is none.

const DONE = 4

export class XMLHttpRequest {
  readyState = 0
  responseText = ""
  timeout = 0
  #method
  #url
  #headers = {}
  #controller = new AbortController()

  open(method, url) {
    this.#method = method
    this.#url = url
    this.readyState = 1
  }

  setRequestHeader(name, value) {
    this.#headers[name] = value
  }

  async send(body) {
    let timedOut = false
    const timer = this.timeout && setTimeout(() => {
      timedOut = true
      this.#controller.abort()
    }, this.timeout)
    try {
      const {signal} = this.#controller
      const response = await fetch(this.#url, {method: this.#method, headers: this.#headers, body, signal})
      this.responseText = await response.text()
      this.#finish()
    } catch {
      // As in a browser: the state changes first, without a response, then comes the particular event.
      this.#finish()
      if (timedOut) this.ontimeout?.()
      else if (!this.#controller.signal.aborted) this.onerror?.()
    } finally {
      clearTimeout(timer)
    }
  }

  abort() {
    this.#controller.abort()
  }

  #finish() {
    this.readyState = DONE
    this.onreadystatechange?.()
  }
}
