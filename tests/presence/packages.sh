#!/usr/bin/env bash
# Puts the vendor's packages where the tests of the presence plugin look for them, as they are locked: those of package-lock.json
# into node_modules beside this file, those of requirements.txt into target/presence-venv. Both are left alone while their lock
# file is the one they were made of. Whoever comes second waits; caches stay inside the checkout, and no package's script is run.
set -euo pipefail
cd "$(dirname "$0")"
target="$PWD/../../target"
venv="$target/presence-venv"
mkdir -p "$target"

for pair in node:nodejs npm:npm python3:python3; do
  command -v "${pair%%:*}" >/dev/null || { echo "error: ${pair%%:*} is missing: apt-get install ${pair##*:}" >&2; exit 1; }
done

exec 9>"$target/presence-packages.lock"
flock 9

if ! cmp -s package-lock.json node_modules/.made-of; then
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --cache "$target/presence-npm" >&2
  cp package-lock.json node_modules/.made-of
fi

# A virtual environment breaks when the Python that made it goes.
if ! cmp -s requirements.txt "$venv/.made-of" || ! "$venv/bin/python" -c '' 2>/dev/null; then
  rm -rf "$venv"
  python3 -m venv "$venv" || { echo "error: python3 cannot make a virtual environment: apt-get install python3-venv" >&2; exit 1; }
  "$venv/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check --requirement requirements.txt >&2
  cp requirements.txt "$venv/.made-of"
fi
