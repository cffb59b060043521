#!/bin/bash
# On a processor without AVX the CPU takes the baseline kernels, and answers to the bit as they do
# on this one.
# Usage: old_processor_test.sh DEVICE_ANSWER MAKE_MODEL
set -u
program=$1
make_model=$2

if ! command -v qemu-x86_64 >/dev/null; then
  echo "SKIPPED: qemu-x86_64 is missing; install the package qemu-user"
  exit 77
fi

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
"$make_model" "$work/tiny.gguf" || exit 1
"$program" "$work/tiny.gguf" baseline >"$work/here" || exit 1
qemu-x86_64 -cpu Nehalem "$program" "$work/tiny.gguf" cpu >"$work/there" ||
  { echo "FAILED: no answer on a Nehalem"; exit 1; }

name=$(head -1 "$work/there")
[[ $name == *'(baseline)' ]] || { echo "FAILED: a Nehalem has '$name'"; exit 1; }
for what in here there; do sed 1d "$work/$what" >"$work/$what.answers"; done
[ -s "$work/here.answers" ] || { echo "FAILED: no answer at all"; exit 1; }
cmp "$work/here.answers" "$work/there.answers" || { echo "FAILED: the answers differ"; exit 1; }
echo "the same answers on '$name'"
