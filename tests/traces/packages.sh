#!/usr/bin/env bash
# Puts the definitions of OTLP's messages where the tests of traces look for them, as they are locked in requirements.txt: into
# target/traces-venv, which is left alone while that file is the one it was made of. Whoever comes second waits.
set -euo pipefail
cd "$(dirname "$0")"
target="$PWD/../../target"
venv="$target/traces-venv"
mkdir -p "$target"

command -v python3 >/dev/null || { echo "error: python3 is missing: apt-get install python3" >&2; exit 1; }

exec 9>"$target/traces-packages.lock"
flock 9

# A virtual environment breaks when the Python that made it goes.
if ! cmp -s requirements.txt "$venv/.made-of" || ! "$venv/bin/python" -c '' 2>/dev/null; then
  rm -rf "$venv"
  python3 -m venv "$venv" || { echo "error: python3 cannot make a virtual environment: apt-get install python3-venv" >&2; exit 1; }
  "$venv/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check --requirement requirements.txt >&2
  cp requirements.txt "$venv/.made-of"
fi
