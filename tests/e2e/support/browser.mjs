// How the tests start Chromium.

/** No sandbox, since the tests may run as root; and nothing that asks the network. */
export const ARGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-quic",
]
