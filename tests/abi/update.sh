#!/bin/bash
# Rewrites tests/abi/tessera.abi and symbols.txt after a change of the header that docs/abi.md
# allows. LIBRARY tells the SONAME and the symbol version; types and calls come from the header
# alone, so that the dump holds nothing of the inside. Look at the difference before committing it.
# Usage: tests/abi/update.sh LIBRARY   (such as build/release/runtime/abi/libtessera.so)
set -eu
library=${1:?usage: update.sh LIBRARY}
[ -f "$library" ] || { echo "update.sh: $library: no such file" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
include=$(cd "$here/../../include" && pwd)
. "$here/stub.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stub "$include" "$work/header.so" "$library"
abidw --drop-private-types --no-show-locs --no-corpus-path --no-comp-dir-path --no-elf-needed \
  --type-id-style hash "$work/header.so" >"$work/tessera.abi"
{
  grep '^#' "$here/symbols.txt"
  nm -D --defined-only "$work/header.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
    LC_ALL=C sort
} >"$work/symbols.txt"
for file in tessera.abi symbols.txt; do
  cmp -s "$work/$file" "$here/$file" || echo "changed: tests/abi/$file"
  cp "$work/$file" "$here/$file"
done
