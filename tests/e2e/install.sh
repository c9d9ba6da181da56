#!/bin/sh
# Installs what npm and pip bring for the end-to-end suites, as far as its lock file or list is newer than what is there. Started in
# this folder, or read by run.sh.
set -eu

# Installs again when the lock file is newer than what was installed from it.
npm_install() {
    if [ ! "$1/node_modules/.package-lock.json" -nt "$1/package-lock.json" ]; then
        npm ci --prefix "$1" --no-audit --no-fund
        touch "$1/node_modules/.package-lock.json"
    fi
}
npm_install .
npm_install ../../console

# Makes an environment of Python from a list of requirements: make_venv ENVIRONMENT LIST [options of pip].
make_venv() {
    venv=python/$1 list=python/$2
    shift 2
    if [ ! "$venv/installed" -nt "$list" ]; then
        python3 -m venv --clear "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check "$@" -r "$list"
        touch "$venv/installed"
    fi
}
make_venv .venv requirements.txt
# It asks for a version of websockets that no Python of today can load.
make_venv .venv-phx-events requirements-phx-events.txt --no-deps
# It wants older packages than the first.
make_venv .venv-supabase requirements-supabase.txt
