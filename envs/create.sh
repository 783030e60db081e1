#!/bin/sh
# Make .venv hold exactly what envs/lock.txt says; do nothing where it already does.
#
# Where a package comes from is pip's own setting. The lock says torch==2.13.0, which fits each
# build of it: on Linux, the registry's default build brings several GB of CUDA libraries. To take
# the CPU build, tell pip the index that holds it (pip config, PIP_EXTRA_INDEX_URL or
# PIP_FIND_LINKS) before the first `make run`, or remove .venv afterwards and start again.
set -eu
cd "$(dirname "$0")/.."

fail() {
    printf 'landmarkflow: %s\n' "$1" >&2
    exit 1
}

# The stamp is written last, so an interrupted installation never looks complete. It names the
# folder too, because the commands in .venv/bin stop working where the folder is moved.
stamp() {
    printf '# %s\n' "$(pwd -P)"
    cat envs/lock.txt
}
if stamp | cmp -s - .venv/lock.txt && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

command=${PYTHON:-python3}
found=$("$command" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
    fail "Python 3.11 or newer is needed, but \`$command\` does not run: on Debian, install the packages python3 and python3-venv, or name another with PYTHON=..."
"$command" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Python 3.11 or newer is needed, but \`$command\` is Python $found: name a newer one with PYTHON=..."
"$command" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "Python's venv module is not complete for \`$command\` (Python $found): on Debian, install the package python3-venv."
# An activated .venv is about to be removed: go on with the Python it was made from.
python=$("$command" -c 'import os, sys; print(os.path.realpath(sys.executable))')

echo "Creating .venv from envs/lock.txt (once; several minutes)"
rm -rf .venv
"$python" -m venv .venv
.venv/bin/python -m pip --disable-pip-version-check --no-input install --requirement envs/lock.txt
.venv/bin/python -m pip --disable-pip-version-check check
stamp >.venv/lock.txt.part
mv .venv/lock.txt.part .venv/lock.txt
