// The files that the guides tell their readers to write.

import {readFileSync} from "node:fs"

const DOCS = new URL("../../../docs/", import.meta.url)

/** The block of a page in docs/ that is marked with `file:NAME`. */
export function file(page, name) {
  const text = readFileSync(new URL(page, DOCS), "utf8")
  const found = text.match(new RegExp("^```\\S+ [^\\n]*file:" + name.replaceAll(".", "\\.") + "[^\\n]*\\n(.*?)^```$", "ms"))
  if (!found) throw new Error(`docs/${page} has no file ${name}`)
  return found[1]
}
