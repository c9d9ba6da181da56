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

/** The blocks of the README in this language, in their order, without those that the guides' tests leave out. */
export function readmeBlocks(language) {
  const text = readFileSync(new URL("../README.md", DOCS), "utf8")
  const blocks = text.matchAll(/^```(\S+)( [^\n]*)?\n(.*?)^```$/gms)
  return [...blocks].filter(([, of, words]) => of === language && !words?.includes("skip:")).map(([, , , code]) => code)
}
