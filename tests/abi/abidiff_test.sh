#!/bin/bash
# No released program breaks: libtessera.so against the committed dump tessera.abi, added calls
# aside. First the gate itself is tried on headers with changes that must not pass.
# Usage: abidiff_test.sh LIBRARY INCLUDE_DIR TEST_DIR
set -u
library=$1
include=$2
here=$3
. "$here/stub.sh"

if ! command -v abidiff >/dev/null || ! command -v abidw >/dev/null; then
  echo "SKIPPED: abidiff is missing; install the package abigail-tools"
  exit 77
fi

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failures=0

# breaks WHAT SED_EXPRESSION: with the header so edited, abidiff must report a change.
breaks() {
  mkdir -p "$work/changed/tessera"
  sed "$2" "$include/tessera/tessera.h" >"$work/changed/tessera/tessera.h"
  if cmp -s "$work/changed/tessera/tessera.h" "$include/tessera/tessera.h"; then
    echo "FAILED: the edit for '$1' no longer finds its place in tessera.h"
    failures=$((failures + 1))
  elif stub "$work/changed" "$work/changed.so" &&
    abidiff --no-added-syms "$work/header.so" "$work/changed.so" >"$work/report"; then
    echo "FAILED: abidiff does not see $1"
    failures=$((failures + 1))
  fi
}

stub "$include" "$work/header.so" || { echo "FAILED: the header does not compile"; exit 1; }
stub "$include" "$work/again.so"
abidiff --no-added-syms "$work/header.so" "$work/again.so" ||
  { echo "FAILED: the header differs from itself"; exit 1; }
breaks "a field that takes the place of padding" 's/uint32_t reserved;/uint16_t a, b;/'
breaks "a field in the middle" 's/^  tsr_kv_type kv_type;/  uint64_t added;\n&/'
breaks "two fields that changed places" \
  's/^  float top_p; /  float min_p_;/; s/^  float min_p; /  float top_p;/'
breaks "a narrower argument" 's/int64_t timeout_ms/int32_t timeout_ms/'
breaks "a call that is gone" 's/tsr_chunk_get_info(/tsr_chunk_get_info2(/'

if ! readelf --debug-dump=info "$library" 2>/dev/null | grep -q ': tsr_generate_options$'; then
  echo "FAILED: $library has no type information: its entry points must be compiled with -g"
  exit 1
fi
if [ ! -f "$here/tessera.abi" ]; then
  echo "FAILED: tests/abi/tessera.abi is missing; tests/abi/update.sh writes it"
  exit 1
fi
if ! abidiff --no-added-syms --headers-dir2 "$include" --drop-private-types \
  "$here/tessera.abi" "$library"; then
  echo "FAILED: the ABI differs from tests/abi/tessera.abi (docs/abi.md says what is allowed)"
  failures=$((failures + 1))
fi
echo "abidiff_test: $failures failures"
exit $((failures > 0))
