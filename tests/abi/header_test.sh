#!/bin/bash
# The public headers compile alone, without a warning, in every language version they promise, and
# layout.inc knows every struct, field, constant and enumeration of tessera.h.
# Usage: header_test.sh INCLUDE_DIR TEST_DIR
set -u
include=$1
here=$2
failures=0
flags="-fsyntax-only -Wall -Wextra -pedantic -Werror -Wconversion -Wshadow"

check() {  # check COMPILER LANGUAGE STANDARD HEADER
  if ! printf '#include "tessera/%s"\n' "$4" | "$1" -x "$2" -std="$3" $flags -I"$include" -; then
    echo "FAILED: $4 with $1 -std=$3"
    failures=$((failures + 1))
  fi
}

compilers=$(command -v gcc clang)
for cc in $compilers; do
  for std in c99 c11 c17; do check "$cc" c $std tessera.h; done
  for std in c++11 c++14 c++17 c++20; do check "$cc" c++ $std tessera.h; done
  for std in c++17 c++20; do check "$cc" c++ $std tessera.hpp; done
done
[ -n "$compilers" ] || { echo "FAILED: neither gcc nor clang found"; failures=1; }

# Comments removed, one line: the shapes below are then easy to match.
flat=$(sed -e 's://.*$::' "$include/tessera/tessera.h" | tr '\n' ' ' |
  sed -e 's:/\*[^*]*\*\+\([^/*][^*]*\*\+\)*/::g')

expect() {  # expect PATTERN WHAT
  if ! grep -q "$1" "$here/layout.inc"; then
    echo "FAILED: layout.inc lacks $2"
    failures=$((failures + 1))
  fi
}

while read -r name body; do
  expect "^SIZE($name," "struct $name"
  for field in $(grep -o '[a-z_]\+\(\[[0-9]*\]\)\? *;' <<<"$body" | grep -o '^[a-z_]*'); do
    expect "^FIELD($name, $field," "$name.$field"
  done
done < <(grep -o 'typedef struct tsr_[a-z_]* {[^}]*}' <<<"$flat" |
  sed -e 's/typedef struct //' -e 's/[{}]//g')

while read -r name; do
  expect "^VALUE($name," "constant $name"
done < <(grep -o '^#define TSR_[A-Z0-9_]\+ ' "$include/tessera/tessera.h" |
  awk '$2 != "TSR_API" { print $2 }')

while read -r name; do
  expect "^TYPE($name," "type $name"
done < <(grep -o 'typedef int32_t tsr_[a-z_]*' <<<"$flat" | awk '{ print $3 }')

count=$(grep -c '^FIELD' "$here/layout.inc")
echo "header_test: $count fields known, $failures failures"
exit $((failures > 0))
