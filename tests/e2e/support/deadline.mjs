// Waiting for things that should happen, with a limit and a sentence for when they do not.

// Generous: other builds and tests may be using the same cores.
export const DEADLINE_MS = 30_000

/** Settles as `promise` does, or fails saying `what` was waited for. */
export async function within(promise, what, ms = DEADLINE_MS) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms} ms in vain for ${what}`)), ms)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Asks again and again until `condition` returns something true, and returns that. */
export async function eventually(condition, what, ms = DEADLINE_MS) {
  const end = Date.now() + ms
  for (;;) {
    const found = await condition()
    if (found) return found
    if (Date.now() > end) throw new Error(`waited ${ms} ms in vain for ${what}`)
    await sleep(20)
  }
}

export function sleep(ms) {
  return new Promise(resolve => setTimeout(resolve, ms))
}

/** What has come and what is still expected, in order. */
export class Inbox {
  #name
  #items = []
  #waiting = []

  constructor(name) {
    this.#name = name
  }

  put(item) {
    const waiting = this.#waiting.shift()
    if (waiting) waiting(item)
    else this.#items.push(item)
  }

  /** The next item, which may have come already. */
  next() {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift())
    return within(new Promise(resolve => this.#waiting.push(resolve)), this.#name)
  }

  async take(count) {
    const taken = []
    while (taken.length < count) taken.push(await this.next())
    return taken
  }

  /** What came and was not taken, without waiting. */
  rest() {
    return this.#items.splice(0)
  }
}
