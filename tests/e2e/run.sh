#!/bin/sh
# Runs the end-to-end suites: ./run.sh [test files]
#
# Needs Node 20.19, Python 3.11 with venv, and Chromium. What npm and pip install is pinned and kept in this folder.
# FANFARE_ORACLE, FANFARE_BIN: binaries to test; what is not given is built in release mode.
# FANFARE_NODES: how many nodes of a cluster each test's server is, 1 by default; more need redis-server and redis-cli.
# CHROMIUM: the browser, /usr/bin/chromium by default.
set -eu
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
target=${CARGO_TARGET_DIR:-$root/target}

. ./install.sh

if [ -z "${FANFARE_ORACLE:-}" ]; then
    cargo build --manifest-path "$root/Cargo.toml" --release -p fanfare-oracle --bin oracle
    FANFARE_ORACLE=$target/release/oracle
fi
if [ -z "${FANFARE_BIN:-}" ]; then
    cargo build --manifest-path "$root/Cargo.toml" --release -p fanfare-server
    FANFARE_BIN=$target/release/fanfare
fi
export FANFARE_ORACLE FANFARE_BIN

# Clients that exist already notice nothing of several nodes: these run once more against two on one Redis, behind a proxy without stickiness.
two_nodes=
if [ $# -eq 0 ]; then
    two_nodes="phoenix/broadcast.test.mjs phoenix/by_hand.test.mjs phoenix/connect.test.mjs phoenix/fallback.test.mjs phoenix/presence.test.mjs phoenix/reconnect.test.mjs python/phxsocket.test.mjs resume/delta.test.mjs others/npm.test.mjs others/python.test.mjs"
    set -- console/*.test.mjs phoenix/*.test.mjs resume/*.test.mjs python/*.test.mjs browser/*.test.mjs guides/*.test.mjs others/*.test.mjs supabase/*.test.mjs
fi
# Clients that were given up keep timers of ten seconds and more, which nobody need wait for. Older versions of Node have to.
hurry=
case $(node --help) in *--test-force-exit*) hurry=--test-force-exit ;; esac
# Each file has servers of its own and waits most of the time. By itself, Node runs one file fewer at a time than there are cores.
together=--test-concurrency=$(nproc)
node --test $hurry $together "$@"
[ -z "$two_nodes" ] || FANFARE_NODES=2 node --test $hurry $together $two_nodes
