#!/bin/sh
# Let pip choose versions for the direct pins in an empty environment, and write them down.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' HUP INT TERM
"${PYTHON:-python3}" -m venv "$folder/venv"
"${PYTHON:-python3}" envs/generate.py --direct >"$folder/pins.txt"
"$folder/venv/bin/python" -m pip --no-input install --requirement "$folder/pins.txt"
"$folder/venv/bin/python" envs/generate.py
