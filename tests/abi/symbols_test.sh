#!/bin/bash
# What libtessera.so shows to a linker: exactly the declared calls, the right SONAME, no other
# library than the allowed ones, and no way to end the process.
# Usage: symbols_test.sh LIBRARY INCLUDE_DIR SYMBOLS_TXT ABI [sanitized]
set -u
library=$1
include=$2
list=$3
abi=$4
sanitized=${5:-}
failures=0

fail() {
  echo "FAILED: $*"
  failures=$((failures + 1))
}

same() {  # same WHAT EXPECTED ACTUAL: two sorted lists
  local difference
  difference=$(diff <(echo "$2") <(echo "$3"))
  [ -z "$difference" ] || fail "$1 ('<' expected, '>' found):"$'\n'"$difference"
}

listed=$(grep -v '^#' "$list" | LC_ALL=C sort)
declared=$(echo '#include "tessera/tessera.h"' | cc -E -P -I"$include" -x c - |
  grep -o '\btsr_[a-z0-9_]* *(' | tr -d ' (' | LC_ALL=C sort -u)
# A version script adds its node's name as an absolute symbol (A), which is no call.
exported=$(nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
  LC_ALL=C sort)
same "declared in tessera.h against $(basename "$list")" "$listed" "$declared"
same "exported by $(basename "$library") against $(basename "$list")" "$listed" "$exported"

soname=$(readelf -d "$library" | sed -n 's/.*SONAME.*\[\(.*\)\].*/\1/p')
[ "$soname" = "libtessera.so.$abi" ] || fail "SONAME is '$soname', not libtessera.so.$abi"
header_abi=$(sed -n 's/^#define TSR_ABI_VERSION \([0-9]*\)u$/\1/p' "$include/tessera/tessera.h")
[ "$header_abi" = "$abi" ] || fail "TSR_ABI_VERSION is '$header_abi', TESSERA_ABI is $abi"

if [ -z "$sanitized" ]; then
  # Sanitizers end the process on purpose and bring libraries of their own.
  fatal='abort|exit|_exit|_Exit|quick_exit|__assert_fail|__assert|raise|kill|tgkill|signal'
  fatal+='|sigaction|atexit|setenv|putenv|socket|connect'
  found=$(nm -D --undefined-only "$library" | awk '{ sub(/@.*/, "", $2); print $2 }' |
    grep -xE "$fatal")
  [ -z "$found" ] || fail "the library refers to: $(echo $found)"
  for needed in $(readelf -d "$library" | sed -n 's/.*NEEDED.*\[\(.*\)\].*/\1/p'); do
    case $needed in
      libstdc++.so.6 | libgcc_s.so.1 | libm.so.6 | libc.so.6 | ld-linux*.so.* | libdl.so.2) ;;
      libpthread.so.0 | libpcre2-8.so.0 | libxxhash.so.0) ;;
      *) fail "the library needs $needed" ;;
    esac
  done
  [ -z "$(readelf -d "$library" | grep -E 'RPATH|RUNPATH')" ] || fail "the library has a run path"
fi

echo "symbols_test: $(wc -l <<<"$exported") calls exported, $failures failures"
exit $((failures > 0))
