// Builds the pages into dist/, or into the folder given as the first argument.
// Same sources and lock file, same bytes: nothing here depends on the time, the machine or the output folder.

import {build} from "esbuild"
import {copyFile, mkdir, readFile, readdir, rm, writeFile} from "node:fs/promises"
import {dirname, join, resolve} from "node:path"
import {fileURLToPath} from "node:url"

const root = dirname(fileURLToPath(import.meta.url))
const out = resolve(process.argv[2] ?? join(root, "dist"))

await rm(out, {recursive: true, force: true})
await mkdir(join(out, "demo"), {recursive: true})
await mkdir(join(out, "console"), {recursive: true})

const PROTOCOLS = ["hub", "bullet", "rooms"]
const options = {
  absWorkingDir: root,
  outdir: join(out, "demo"),
  bundle: true,
  minify: true,
  format: "iife",
  target: ["es2020", "chrome90", "firefox90", "safari15"],
  charset: "utf8",
  logLevel: "warning",
}
await build({...options, entryPoints: ["demo/app.js", "demo/app.css"], banner: {js: await notice("phoenix")}})
const scripts = PROTOCOLS.map(name => `demo/protocols/${name}.js`)
await build({...options, entryPoints: [...scripts, "demo/protocols/protocols.css"]})
await build({
  ...options,
  entryPoints: ["demo/supabase.js", "demo/supabase.css"],
  banner: {js: [await notice("@supabase/realtime-js"), await notice("@supabase/phoenix")].join("\n")},
})
await writeFile(join(out, "demo/index.html"), await filled("demo/index.html", "./"))
await writeFile(join(out, "demo/supabase.html"), await filled("demo/supabase.html", "supabase.html"))
for (const name of PROTOCOLS) await writeFile(join(out, `demo/${name}.html`), await page(name))
await build({
  ...options,
  outdir: join(out, "console"),
  entryPoints: ["console/console.jsx", "console/console.css"],
  jsxFactory: "h",
  target: ["es2021", "chrome100", "firefox100", "safari15.4"],
  banner: {js: await notice("preact")},
})
await copyFile(join(root, "console/index.html"), join(out, "console/index.html"))

// A page of a protocol: the frame, the messages, and what is its own: comments `name: text` and what connects it.
async function page(name) {
  const own = await readFile(join(root, `demo/protocols/${name}.html`), "utf8")
  const parts = {name, before: ""}
  const side = own.replace(/^<!-- (\w+): (.*) -->\n/gm, (_, part, text) => {
    parts[part] = text
    return ""
  })
  if (parts.before) parts.before = `        ${parts.before}\n`
  const messages = await readFile(join(root, "demo/protocols/messages.html"), "utf8")
  parts.main = `${fill(messages, parts)}    <div class="side">\n${side}    </div>`
  return filled("demo/protocols/page.html", `${name}.html`, parts)
}

// A page with what all of them have on top: the icon, the name, and the links, of which one is where the reader is.
async function filled(file, here, parts = {}) {
  const part = async name => (await readFile(join(root, `demo/parts/${name}.html`), "utf8")).trimEnd()
  const nav = (await part("nav")).replace(`href="${here}"`, `href="${here}" aria-current="page"`)
  const all = {icon: await part("icon"), brand: await part("brand"), nav, ...parts}
  return fill(await readFile(join(root, file), "utf8"), all)
}

function fill(text, parts) {
  return text.replace(/{{(\w+)}}/g, (_, part) => parts[part])
}

// A bundle holds a copy of its client, whose licence asks for its notice to go with every copy.
async function notice(client) {
  const pkg = join(root, "node_modules", client)
  const {version} = JSON.parse(await readFile(join(pkg, "package.json"), "utf8"))
  const file = (await readdir(pkg)).find(name => /^licen[cs]e/i.test(name))
  const licence = await readFile(join(pkg, file), "utf8")
  return `/*! Contains ${client} ${version} (npm).\n\n${licence.trim()}\n*/`
}
