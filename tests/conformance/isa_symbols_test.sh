#!/bin/sh
# isa_symbols_test.sh NM ISA OBJECT...: objects that are compiled for more than the baseline define
# symbols of their own namespace only. A function of the C++ library emitted in one of them could be
# the copy that the linker keeps for the whole program, and would not run on every processor.
set -eu
nm=$1 isa=$2
shift 2
symbols=$("$nm" --defined-only --extern-only "$@" | awk 'NF == 3 && $2 ~ /[A-Zvwu]/ {print $3}')
[ -n "$symbols" ] || { echo "no symbols in: $*"; exit 1; }
bad=$(echo "$symbols" | grep -v "^_ZG\?V\?N\?K\?.*7tessera3cpu[0-9]*$isa" || true)
if [ -n "$bad" ]; then
  echo "defined for $isa outside its namespace:"
  echo "$bad"
  exit 1
fi
echo "$(echo "$symbols" | wc -l) symbols, all of $isa"
