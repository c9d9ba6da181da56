// One check, many clients: registers a test for each client version, transport and network that it applies to.

import {after, before, describe, test} from "node:test"
import {CLIENTS, Visit} from "./clients.mjs"
import {startOracle} from "./process.mjs"

// The tests wait most of the time.
const CONCURRENCY = 8

const NETWORKS = {
  good: null,
  sliced: {latencyMs: 3, sliced: true},
}

/**
 * A group of checks against one server, an oracle unless `start` starts another. `body` gets `check(name, options,
 * run)`; run gets a Visit. Options:
 * - `on`: which clients, a predicate over `{version, transport}`; all of them by default;
 * - `networks`: names from NETWORKS, `["good"]` by default.
 */
export function checks(title, body, start = startOracle) {
  describe(title, {concurrency: CONCURRENCY}, () => {
    let server
    before(async () => {
      server = await start()
    })
    after(() => server.remove())
    body(checkWith(use => use(server)))
  })
}

/** As `checks`, with a server for each test, which may do with it what it likes. */
export function checksWithOwnServer(title, body, start = startOracle) {
  describe(title, {concurrency: CONCURRENCY}, () => {
    body(checkWith(async use => {
      const server = await start()
      try {
        await use(server)
      } finally {
        await server.remove()
      }
    }))
  })
}

function checkWith(server) {
  return (name, {on = () => true, networks = ["good"]}, run) => {
    for (const network of networks) {
      for (const client of CLIENTS.filter(on)) {
        const where = network === "good" ? "" : `, ${network} network`
        test(`${name} [${client.version} ${client.transport}${where}]`, () => server(async address => {
          const visit = new Visit(client, address)
          try {
            if (NETWORKS[network]) await visit.through(NETWORKS[network])
            await run(visit)
          } finally {
            await visit.end()
          }
        }))
      }
    }
  }
}
