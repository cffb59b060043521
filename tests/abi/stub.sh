# Sourced by abidiff_test.sh. stub INCLUDE_DIR OUTPUT: a library that defines every call of
# tessera.h and does nothing; its debug information is the header's ABI.
stub() {
  {
    echo '#include "tessera/tessera.h"'
    echo '#include "tessera/tessera.h"' | cc -E -P -I"$1" -x c - | tr '\n' ' ' |
      grep -o '__attribute__((visibility("default")))[^;]*;' | sed 's/;$/ { __builtin_trap(); }/'
  } | cc -std=c99 -g -w -shared -fPIC -I"$1" -x c -o "$2" -
}
