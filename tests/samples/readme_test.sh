#!/usr/bin/env bash
# readme_test.sh SOURCE: the C lines of the README stand in samples/hello/hello.c, which is built;
# and every relative link of README.md and docs/*.md leads to a file.
set -euo pipefail
cd "$1"
failed=0

example=$(sed -n '/^```c$/,/^```$/p' README.md | sed '1d;$d')
program=$(<samples/hello/hello.c)
if [[ $(grep -c . <<<"$example") -lt 10 || $program != *$'\n'"$example"$'\n'* ]]; then
  echo "README.md: the C example does not stand in samples/hello/hello.c:"
  diff <(printf '%s\n' "$example") samples/hello/hello.c | grep '^<' || true
  failed=1
fi

links=0
for page in README.md docs/*.md; do
  while read -r link; do
    links=$((links + 1))
    if [[ ! -e $(dirname "$page")/${link%%#*} ]]; then
      echo "$page: link to $link, which does not exist"
      failed=1
    fi
  done < <(sed '/^```/,/^```$/d' "$page" | grep -o '](\([^)]*\))' | sed 's/^](//; s/)$//' |
    grep -v -E '^(https?:|#)' || true)
done
((links > 0)) || { echo "no link found: this test looks at nothing"; failed=1; }
echo "$links links"
exit $failed
