// The code in the README of the npm package, which is tested as it stands there.

import {readFileSync} from "node:fs"

const README = new URL("../../../clients/javascript/README.md", import.meta.url)

/** The block that is marked with `name`. */
export function block(name) {
  const found = readFileSync(README, "utf8").match(new RegExp("^```js " + name + "\\n(.*?)^```$", "ms"))
  if (!found) throw new Error(`the README has no block ${name}`)
  return found[1]
}
