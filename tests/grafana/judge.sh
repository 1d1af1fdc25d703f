#!/usr/bin/env bash
# Judges dashboards by Grafana's own schema: judge.sh FOLDER FILE.json …, with a folder for what is made on the way. Each file becomes a
# constant of the type in schema.ts, which the compiler then finds right or not. The packages are fetched as they are locked, once;
# whoever comes second waits; caches stay inside the checkout, and no package's script is run.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
target="$here/../../target"
made="$1"
shift
mkdir -p "$target"

for pair in node:nodejs npm:npm; do
  command -v "${pair%%:*}" >/dev/null || { echo "error: ${pair%%:*} is missing: apt-get install ${pair##*:}" >&2; exit 1; }
done

exec 9>"$target/grafana-packages.lock"
flock 9
if ! cmp -s "$here/package-lock.json" "$here/node_modules/.made-of"; then
  (cd "$here" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --cache "$target/grafana-npm") >&2
  cp "$here/package-lock.json" "$here/node_modules/.made-of"
fi

sources=()
for file in "$@"; do
  source="$made/$(basename "$file" .json).ts"
  printf 'import type { Judged } from "%s/schema";\nexport const dashboard: Judged = ' "$here" >"$source"
  cat "$file" >>"$source"
  sources+=("$source")
done
"$here/node_modules/.bin/tsc" --ignoreConfig --noEmit --strict --skipLibCheck \
  --target es2022 --module esnext --moduleResolution bundler "${sources[@]}"
