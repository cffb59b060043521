#!/usr/bin/env python3
"""Fails where an #include breaks the table "What may know what" of docs/architecture.md."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOP = r"backends/[a-z_]+\.hpp"  # the interface, not a backend's folder
# folder -> what its files may include of ours, besides themselves
ALLOWED = {
    "include/": [r"tessera/tessera\.h"],
    "samples/": [r"tessera/tessera\.(h|hpp)", r"samples/.*"],
    "runtime/abi/": [r"include/tessera/tessera\.h", r"runtime/.*", TOP],
    "runtime/engine/": [r"runtime/(kv|model|text)/.*", TOP],
    "runtime/kv/": [TOP],
    "runtime/model/": [r"runtime/(gguf|text)/.*", TOP],
    "runtime/text/": [r"runtime/gguf/reader\.hpp", r"runtime/gguf/value\.hpp", r"backends/error\.hpp"],
    "runtime/gguf/": [r"backends/(error|dtype)\.hpp"],
    "backends/cpu/": [TOP],
    "backends/remote/": [TOP],
}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]((?:include|runtime|backends|samples|tests|tessera)/[^>"]+)')


def main():
    checked, broken = 0, []
    for folder, allowed in ALLOWED.items():
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix not in {".h", ".hpp", ".c", ".cpp", ".inc"}:
                continue
            for number, line in enumerate(path.read_text().splitlines(), 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                checked += 1
                target = match.group(1)
                if not target.startswith(folder) and not any(re.fullmatch(a, target) for a in allowed):
                    broken.append(f"{path.relative_to(ROOT)}:{number}: must not include {target}")
    print("\n".join(broken) or f"{checked} includes, all within docs/architecture.md")
    return 1 if broken or checked == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
