# Sourced by abidiff_test.sh and update.sh.
#
# stub INCLUDE_DIR OUTPUT [LIBRARY]: a library that defines every call of tessera.h and does
# nothing; its debug information is the header's ABI and nothing else. SONAME and symbol version are
# those of LIBRARY.
stub() {
  local node='' soname=stub
  if [ -n "${3:-}" ]; then
    soname=$(readelf -d "$3" | sed -n 's/.*SONAME.*\[\(.*\)\].*/\1/p')
    node=$(nm -D --defined-only "$3" | sed -n 's/.* tsr_version@@*//p')
  fi
  echo "$node { global: tsr_*; local: *; };" >"$2.map"
  {
    echo '#include "tessera/tessera.h"'
    echo '#include "tessera/tessera.h"' | cc -E -P -I"$1" -x c - | tr '\n' ' ' |
      grep -o '__attribute__((visibility("default")))[^;]*;' | sed 's/;$/ { __builtin_trap(); }/'
  } | cc -std=c99 -g -w -shared -fPIC -I"$1" -Wl,-soname="$soname" -Wl,--version-script="$2.map" \
    -x c -o "$2" -
  local status=$?
  rm -f "$2.map"
  return $status
}
