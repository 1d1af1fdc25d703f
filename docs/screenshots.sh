#!/usr/bin/env bash
# Makes docs/page-light.png and docs/page-dark.png: the live page of `tidegate demo` after some minutes of its load, as Chromium draws it.
# Run it where the page has changed: `docs/screenshots.sh [PROGRAM]`, by default target/release/tidegate. Needs chromium and node; with
# pngquant the pictures become small enough to be kept in the repository.
set -euo pipefail
cd "$(dirname "$0")/.."
program="${1:-target/release/tidegate}"
# As long as the page's lines reach back.
seconds="${SECONDS_BEFORE:-310}"
folder="$(mktemp -d)"
trap 'kill "$demo" 2>/dev/null || true; rm -rf "$folder"' EXIT

tests/presence/packages.sh
: >"$folder/said"
"$program" demo --for "$((seconds + 60))s" >>"$folder/said" &
demo=$!
until admin="$(sed -n 's,.*admin *http://\([0-9.:]*\)/.*,\1,p' "$folder/said")" && [ -n "$admin" ]; do sleep 0.2; done
sleep "$seconds"
{
  for colour in light dark; do
    dark=$([ "$colour" = dark ] && echo true || echo false)
    echo "{\"look\":{\"width\":1280,\"height\":860,\"dark\":$dark},\"open\":\"http://$admin/\"}"
    echo '{"see":"document.querySelector(\"#headline\").textContent.includes(\"noisy\") && document.querySelectorAll(\"#decisions tr\").length > 1"}'
    # Until rates are over the same seconds everywhere.
    echo '{"see":"performance.now() > 8000"}'
    echo "{\"screenshot\":\"$folder/page-$colour.png\"}"
  done
} | node tests/presence/browse.js "$folder/browser"
for colour in light dark; do
  if command -v pngquant >/dev/null; then
    pngquant --force --strip --quality 70-95 --output "docs/page-$colour.png" "$folder/page-$colour.png"
  else
    cp "$folder/page-$colour.png" "docs/page-$colour.png"
  fi
  ls -l "docs/page-$colour.png"
done
