// A server of nginx with a guide's configuration, and what is needed to start other proxies.

import {spawn, spawnSync} from "node:child_process"
import {writeFileSync} from "node:fs"
import {createConnection} from "node:net"
import {join} from "node:path"
import {eventually} from "./deadline.mjs"

/** A whole configuration around the servers of a guide; all that nginx writes goes into the folder. */
export function nginxConfig(folder, servers) {
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(name => `${name}_temp_path ${folder}/${name};`)
  return `
    daemon off; pid ${folder}/nginx.pid; error_log stderr;
    events {}
    http {
      access_log off;
      ${temporary.join(" ")}
      ${servers}
    }`
}

/** Starts nginx, which listens on this port; `stop` ends it. */
export function startNginx(folder, port, servers) {
  const config = join(folder, "nginx.conf")
  writeFileSync(config, nginxConfig(folder, servers))
  return startProgram(["nginx", "-p", folder, "-c", config], folder, port)
}

/** Starts a proxy, which listens on this port; `stop` ends it. */
export async function startProgram([program, ...args], folder, port) {
  const running = spawn(program, args, {env: {...process.env, HOME: folder, XDG_DATA_HOME: folder}, stdio: ["ignore", "ignore", "pipe"]})
  let said = ""
  running.stderr.on("data", text => (said += text))
  // nginx ends its workers itself, unless it is killed.
  const stop = () => running.kill()
  try {
    await eventually(() => listens(port), `${program} to listen`)
  } catch (error) {
    stop()
    throw new Error(said, {cause: error})
  }
  return {stop}
}

export function isThere(program) {
  return spawnSync("sh", ["-c", `command -v ${program}`]).status === 0
}

function listens(port) {
  return new Promise(resolve => {
    const socket = createConnection(port, "localhost")
    socket.on("connect", () => {
      resolve(true)
      socket.destroy()
    }).on("error", () => resolve(false))
  })
}
