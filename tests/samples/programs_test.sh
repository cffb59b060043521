#!/usr/bin/env bash
# programs_test.sh PROGRAMS MODEL: the samples as a user runs them, on the default model. PROGRAMS
# is the build folder of samples/.
set -euo pipefail
chat=$1/chat/tessera-chat rag=$1/rag/tessera-rag bench=$1/bench/tessera-bench
hello=$1/hello/tessera-hello model=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
  echo "FAILED: $*"
  exit 1
}
# expect STATUS PATTERN COMMAND...: runs it without input; its output is left in $output.
expect() {
  local status=0
  output=$("${@:3}" 2>&1 </dev/null) || status=$?
  [[ $status == "$1" ]] || fail "status $status, not $1: ${*:3}"$'\n'"$output"
  [[ $output =~ $2 ]] || fail "no '$2' from: ${*:3}"$'\n'"$output"
}

# expect_full COMMAND...: with nowhere to write its output, it says so and fails.
expect_full() {
  local status=0
  output=$("$@" 2>&1 >/dev/full </dev/null) || status=$?
  [[ $status == 1 && $output == *"could not be written"* ]] ||
    fail "status $status on a full disk: $*"$'\n'"$output"
}

echo "-- hello"
expect 1 'usage' "$hello"
expect 1 'none\.gguf' "$hello" "$work/none.gguf" "Hello"
expect 0 'Paris' "$hello" "$model" "What is the capital of France?"
expect_full "$hello" "$model" "What is the capital of France?"

echo "-- chat"
expect 1 'nonsense' "$chat" --nonsense
expect 0 'temperature' "$chat" --help
expect_full "$chat" --help
for temperature in -1 1001 nan inf warm; do
  expect 1 'not a number from 0 to 1000' "$chat" --temperature $temperature
done
expect 1 'none\.gguf.*./dev demo' "$chat" --model "$work/none.gguf"
expect 0 '' "$chat" --model "$model"
# Reference math: what a model this small knows hangs on its last digits.
talk() {
  printf '%s\n' "$@" |
    "$chat" --model "$model" --math reference --temperature 0 --max-tokens 24 2>&1
}
[[ $(talk "What is the capital of France?") == *Paris* ]] || fail "chat does not know Paris"
same=$(talk "Say hello." "What is the capital of France?" /reset "Say hello.")
[[ $same == *"[new conversation]"* ]] || fail "no reset: $same"
# After /reset the first question has its first answer again.
[[ ${same%%$'\n'*} == "${same#*"[new conversation]"$'\n'}" ]] || fail "reset keeps something: $same"
[[ $(talk /nonsense) == *"unknown command /nonsense"* ]] || fail "unknown command is not told"
[[ $(talk "Hi" /stats) == *"tokens/s"* ]] || fail "no stats"
[[ $(talk "Hi" /quit "What is the capital of France?") != *Paris* ]] || fail "/quit goes on"
long=$(printf 'word %.0s' {1..9000})
[[ $(talk "$long" "What is the capital of France?") == *"needs 9"*"left"*Paris* ]] ||
  fail "a message that is too long is not refused with its numbers"
[[ $(talk $'caf\xE9' "What is the capital of France?") == *"not valid UTF-8"*Paris* ]] ||
  fail "a line that is not UTF-8 ends the conversation"
# An answer that the KV budget does not hold: the turn is refused as a whole. Of 28 pages of 16
# tokens the system message takes 21 tokens.
refused=$(printf '%s\n' "What is the capital of France?" /stats |
  "$chat" --model "$model" --kv-budget 10MB --max-tokens 440 2>&1)
[[ $refused == *"--max-tokens"*"/reset"*"session 21 of"* ]] || fail "KV refusal: $refused"

echo "-- chat, Ctrl-C in an answer"
mkfifo "$work/in"
"$chat" --model "$model" --temperature 0 --max-tokens 400 <"$work/in" >"$work/out" 2>"$work/err" &
pid=$!
exec 3>"$work/in"
echo "Write a very long story about a lighthouse." >&3
for ((i = 0; i < 600; ++i)); do
  [[ ! -s $work/out ]] || break
  sleep 0.1
done
kill -INT $pid
for ((i = 0; i < 600; ++i)); do
  [[ $(cat "$work/err") != *"[cancelled]"* ]] || break
  sleep 0.1
done
story=$(stat -c %s "$work/out")
echo "What is the capital of France?" >&3
exec 3>&-
wait $pid || fail "Ctrl-C ended the program: $(cat "$work/err")"
[[ $(cat "$work/err") == *"[cancelled]"* ]] || fail "the answer was not cancelled"
(($(stat -c %s "$work/out") > story + 8)) ||
  fail "no answer after a cancelled one: $(cat "$work/out")"

echo "-- rag"
mkdir "$work/folder"
cat >"$work/folder/lighthouse.txt" <<'END'
The lighthouse of Cape Wrath

The lighthouse of Cape Wrath was built in 1828. Its tower is 20 metres high. The keeper's name was
Alexander Gunn.
END
cat >"$work/folder/bread.txt" <<'END'
Rye bread

Knead rye flour, water, salt and sourdough. Bake the loaf for 55 minutes at 220 degrees.
END
: >"$work/folder/empty.txt"
expect 1 'no library' "$rag" ask "x" --library "$work/none.db" --model "$model"
expect 1 'is not a folder' "$rag" index "$work/none" --library "$work/l.db" --model "$model"
expect 0 'empty\.txt: empty.*2 indexed, 0 unchanged, 1 skipped, 0 removed; 2 passages' \
  "$rag" index "$work/folder" --library "$work/l.db" --model "$model"
# Nothing to do needs no model.
expect 0 '0 indexed, 2 unchanged' \
  "$rag" index "$work/folder" --library "$work/l.db" --model "$work/none.gguf"
expect 2 'matches' "$rag" ask "zyzzyva?" --library "$work/l.db" --model "$work/none.gguf"
question="When was the lighthouse of Cape Wrath built?"
for repair in none head select head+select full; do
  expect 0 '1828.*\[1\] lighthouse\.txt, line 1.*built in 1828.*first token' \
    "$rag" ask "$question" --repair $repair --library "$work/l.db" --model "$model"
done
expect 0 '"answer":".*1828.*"tokens_approximate":0,' \
  "$rag" ask "$question" --repair full --json --library "$work/l.db" --model "$model"
# The second question finds the passage computed: nothing is waited for, and only the question is
# computed.
expect 0 '' "$rag" ask "$question" "Who was the keeper of the lighthouse?" --top 1 --json \
  --repair none --no-cache --library "$work/l.db" --model "$model"
python3 - "$output" <<'END' || fail "the passage was not reused: $output"
import json, sys
first, second = (json.loads(row) for row in sys.argv[1].splitlines())
[passage] = second["sources"]
words = len((passage["name"] + " " + passage["text"]).split())
assert first["sources"][0]["text"] == passage["text"]
first, second = first["report"], second["report"]
assert second["tokens_approximate"] == first["tokens_approximate"] > words
assert second["tokens_computed"] < words + 10
assert second["lookup_us"] < first["lookup_us"] / 4
END
# The dial's default repairs heads and what the question looks at.
expect 0 '"tokens_repaired":[1-9]' \
  "$rag" ask "$question" --json --library "$work/l.db" --model "$model"
expect 1 '--repair' "$rag" ask "$question" --repair some --library "$work/l.db" --model "$model"

echo "-- rag, what is kept on disk"
expect 0 '' "$rag" ask "$question" --json --cache "$work/kept" --library "$work/l.db" \
  --model "$model"
first=$output
[[ -n $(ls "$work/kept") && -n $(ls "$work/l.cache") ]] || fail "nothing was kept"
expect 0 '' "$rag" ask "$question" --json --cache "$work/kept" --library "$work/l.db" \
  --model "$model"
python3 - "$first" "$output" <<'END' || fail "the passages were computed again: $first $output"
import json, sys
cold, warm = (json.loads(row) for row in sys.argv[1:])
assert cold["answer"] == warm["answer"]
cold, warm = cold["report"], warm["report"]
assert warm["load_us"] > 0
assert warm["first_token_us"] < cold["first_token_us"]
END
expect 1 'parent must exist' "$rag" ask "$question" --cache "$work/none/kept" \
  --library "$work/l.db" --model "$model"
expect 1 'excludes' "$rag" ask "$question" --cache "$work/kept" --no-cache --model "$model"

echo "-- rag, cold and warm"
columns='cold +warm +restart.*order +2 1 +1 2 +1 2.*first token( +[0-9.]+ ms){3}'
expect 0 "cold: .*warm: .*Sources.*$columns" \
  "$rag" ask "$question lighthouse or bread" --compare --max-tokens 8 --library "$work/l.db" \
  --model "$model"
expect 0 '' "$rag" ask "$question lighthouse or bread" --compare --max-tokens 8 --json \
  --library "$work/l.db" --model "$model"
python3 - "$output" <<'END' || fail "the warm answer reused nothing: $output"
import json, sys
row = json.loads(sys.argv[1])
cold, warm, restart = row["compare"]
assert (cold["order"], warm["order"], restart["order"]) == ("2 1", "1 2", "1 2")
assert cold["answer"] and warm["answer"] == restart["answer"]
cold, warm, restart = cold["report"], warm["report"], restart["report"]
kinds = ["tokens_exact", "tokens_repaired", "tokens_approximate", "tokens_computed"]
assert sum(cold[kind] for kind in kinds) == sum(warm[kind] for kind in kinds)
assert warm["tokens_approximate"] > 0 and warm["tokens_computed"] == cold["tokens_computed"]
assert warm["lookup_us"] < cold["lookup_us"] / 4
assert warm["first_token_us"] < cold["first_token_us"]
assert restart["load_us"] > 0
assert restart["first_token_us"] < cold["first_token_us"]
END
[[ -z $(ls -d "$work"/*.compare-* 2>/dev/null) ]] || fail "a comparison left its folder"
expect 0 'cold +warm *[^r]*passages, in this order' "$rag" ask "$question" --compare --no-cache \
  --max-tokens 2 --library "$work/l.db" --model "$model"

echo "-- rag, primer"
# The library's own text, once there is enough of it; then it stays.
mkdir "$work/long"
for ((i = 0; i < 60; ++i)); do
  echo "Report $i: the ferry of line $((i * 7)) left the harbour at $((i % 24)) o'clock."
done >"$work/long/ferry.txt"
expect 0 'indexed.*the first 512 tokens are the primer' \
  "$rag" index "$work/long" --library "$work/p.db" --model "$model"
echo "The lighthouse of Cape Wrath was built in 1828." >"$work/long/a.txt"
expect 0 '1 indexed' "$rag" index "$work/long" --library "$work/p.db" --model "$model"
[[ $output != *primer* ]] || fail "the primer was taken twice: $output"
expect 0 '"primer_taken":false' "$rag" index "$work/long" --library "$work/p.db" \
  --model "$work/none.gguf" --json
expect 0 'primer' "$rag" index "$work/long" --library "$work/p.db" --model "$model" --new-primer
expect 0 '1828' "$rag" ask "$question" --library "$work/p.db" --model "$model"

expect_full "$rag" ask "$question" --json --library "$work/l.db" --model "$model"
expect_full "$rag" index "$work/folder" --library "$work/l.db" --model "$work/none.gguf"
expect 1 'is a folder' "$rag" ask "$question" --library "$work/folder" --model "$model"
expect 1 'subcommand' "$rag"
expect 1 'max_session_tokens|tokens' \
  "$rag" ask "$question" --max-tokens 100000 --library "$work/l.db" --model "$model"

echo "-- bench"
expect 1 'nothing to measure' "$bench" --model "$model" --pp 0 --tg 0
expect 0 '"test":"pp16".*"test":"tg4@d32"' "$bench" --model "$model" --pp 16 --tg 4 --depth 0,32 \
  --repetitions 2 --json
[[ $(wc -l <<<"$output") == 4 ]] || fail "bench: not 4 rows: $output"
expect 0 'pp16 +[0-9.]+' "$bench" --model "$model" --pp 16 --tg 0 --repetitions 1

echo "all samples work"
