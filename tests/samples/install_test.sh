#!/usr/bin/env bash
# install_test.sh SOURCE BUILD MODEL: installs into a temporary prefix, moves it, then builds and
# runs the hello sample against it twice: by find_package(Tessera) and by pkg-config.
set -euo pipefail
source=$1 build=$2 model=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
  echo "FAILED: $*"
  exit 1
}
# Shows the output of a command only if it fails.
quietly() { "$@" >"$work/log" 2>&1 || { cat "$work/log"; fail "$*"; }; }

quietly cmake --install "$build" --prefix "$work/installed"
mv "$work/installed" "$work/moved" # nothing may depend on the prefix it was installed to

mkdir "$work/project"
cp "$source/samples/hello/hello.c" "$work/project"
cat >"$work/project/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.16)
project(hello C)
find_package(Tessera 0.1 REQUIRED)
add_executable(hello hello.c)
target_link_libraries(hello PRIVATE Tessera::tessera)
END
quietly cmake -S "$work/project" -B "$work/project/build" -G Ninja \
  -DCMAKE_PREFIX_PATH="$work/moved"
quietly cmake --build "$work/project/build"

pc=$(find "$work/moved" -name tessera.pc)
flags=$(PKG_CONFIG_PATH=$(dirname "$pc") pkg-config --cflags --libs tessera)
libdir=$(dirname "$(find "$work/moved" -name libtessera.so)")
# shellcheck disable=SC2086 # flags is a list
cc -std=c99 "$source/samples/hello/hello.c" $flags -Wl,-rpath,"$libdir" -o "$work/hello_pc"

for program in "$work/project/build/hello" "$work/hello_pc"; do
  answer=$("$program" "$model" "What is the capital of France?") || fail "$program"
  [[ $answer == *Paris* ]] || fail "$program answers: $answer"
  message=$("$program" "$work/none.gguf" "Hello" 2>&1) && fail "$program runs without a model"
  [[ $message == *none.gguf* ]] || fail "$program says: $message"
done

# The programs find the library beside them.
"$work/moved/bin/tessera-chat" --model "$model" --max-tokens 4 --temperature 0 <<<"Hello" >/dev/null
echo "installed programs run"
