#!/bin/bash
# Rewrites tests/abi/tessera.abi and symbols.txt from a built library, after a change that
# docs/abi.md allows. Look at the difference before committing it.
# Usage: tests/abi/update.sh LIBRARY   (such as build/release/lib/libtessera.so)
set -eu
library=${1:?usage: update.sh LIBRARY}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

abidw --headers-dir "$root/include" --drop-private-types --no-show-locs --no-corpus-path \
  --no-comp-dir-path --no-elf-needed --type-id-style hash "$library" |
  sed "s|$root/||g" >"$here/tessera.abi"

{
  grep '^#' "$here/symbols.txt"
  nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
    LC_ALL=C sort
} >"$here/symbols.new"
mv "$here/symbols.new" "$here/symbols.txt"
git -C "$root" --no-pager diff --stat -- "$here" || true
