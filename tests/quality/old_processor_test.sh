#!/bin/bash
# On a processor without AVX the CPU takes the baseline kernels, and answers to the bit as they do
# on this one, whatever the type of the weights.
# Usage: old_processor_test.sh DEVICE_ANSWER WRITE_VARIANTS
set -u
device_answer=$1
write_variants=$2

if ! command -v qemu-x86_64 >/dev/null; then
  echo "SKIPPED: qemu-x86_64 is missing; install the package qemu-user"
  exit 77
fi

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failures=0
fail() {
  echo "FAILED: $1"
  failures=$((failures + 1))
}

"$write_variants" "$work" >"$work/models" && [ -s "$work/models" ] || exit 1
while read -r model; do
  what=$(basename "$model" .gguf)
  "$device_answer" "$model" baseline >"$work/here" || fail "$what: no answer here"
  qemu-x86_64 -cpu Nehalem "$device_answer" "$model" cpu >"$work/there" ||
    fail "$what: no answer on a Nehalem"
  name=$(head -1 "$work/there")
  [[ $name == *'(baseline)' ]] || fail "$what: a Nehalem has '$name'"
  [ "$(sed 1d "$work/there" | wc -l)" -eq 4 ] || fail "$what: not two answers"
  cmp <(sed 1d "$work/here") <(sed 1d "$work/there") || fail "$what: the answers differ"
done <"$work/models"
echo "old_processor_test: $(wc -l <"$work/models") models, $failures failures"
exit $((failures > 0))
