// PyPI's realtime under remote control, by supabase/client.py.

import assert from "node:assert/strict"
import {spawn} from "node:child_process"
import {dirname, join} from "node:path"
import {createInterface} from "node:readline"
import {fileURLToPath} from "node:url"
import {Inbox} from "./deadline.mjs"
import {anon} from "./supabase.mjs"

const E2E = join(dirname(fileURLToPath(import.meta.url)), "..")

/** One client in a process of its own, told what to do line by line. */
export class Python {
  #child
  #told = new Inbox("something from Python")

  constructor(server) {
    const args = [join(E2E, "supabase/client.py"), `${server.ws}/realtime/v1`, anon()]
    this.#child = spawn(join(E2E, "python/.venv-supabase/bin/python"), args, {stdio: ["pipe", "pipe", "inherit"]})
    this.#child.on("exit", code => this.#told.put({exited: code}))
    createInterface({input: this.#child.stdout}).on("line", line => this.#told.put(JSON.parse(line)))
  }

  tell(command) {
    this.#child.stdin.write(`${JSON.stringify(command)}\n`)
  }

  next() {
    return this.#told.next()
  }

  /** The next of a kind; syncs of presence come when they come, and so may others. */
  async nextOf(kind, others = []) {
    for (;;) {
      const told = await this.next()
      if (kind in told) return told[kind]
      assert.ok(["synced", ...others].some(other => other in told), JSON.stringify(told))
    }
  }

  end() {
    this.#child.kill()
  }
}
