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
    "runtime/text/": [r"runtime/gguf/(reader|value)\.hpp", r"backends/error\.hpp"],
    "runtime/gguf/": [r"backends/(error|dtype)\.hpp"],
    "backends/": [TOP],  # its own files; every backend's folder has a row
    "backends/cpu/": [TOP],
    "backends/remote/": [TOP],
}
# Headers that open files, and the only sources of the runtime that may include them.
FILE_HEADER = re.compile(r"^\s*#\s*include\s*<(fcntl\.h|fstream|filesystem|dirent\.h|sys/mman\.h)>")
FILE_SOURCES = {
    "runtime/gguf/file.cpp",
    "runtime/gguf/writer.cpp",
    "runtime/kv/shared_folder.cpp",
}
OURS = r"include|runtime|backends|samples|tests|tessera"
INCLUDE = re.compile(rf'^\s*#\s*include\s*[<"]((?:{OURS})/[^>"]+|[^>"]*\.\./[^>"]*)')


def row_of(path):
    """The most particular folder of the table that `path` is in, or None."""
    return max((folder for folder in ALLOWED if path.startswith(folder)), key=len, default=None)


def wrong(folder, target):
    """Whether files of `folder` must not include `target`."""
    if ".." in target.split("/"):
        return True
    return row_of(target) != folder and not any(re.fullmatch(a, target) for a in ALLOWED[folder])


def main():
    checked, broken = 0, []
    for top in sorted({folder.split("/")[0] for folder in ALLOWED}):
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix not in {".h", ".hpp", ".c", ".cpp", ".inc"}:
                continue
            name = str(path.relative_to(ROOT))
            folder = row_of(name)
            if folder is None or (folder == "backends/" and name.count("/") > 1):
                broken.append(f"{name}: its folder has no row in {pathlib.Path(__file__).name}")
                continue
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if name.startswith("runtime/") and name not in FILE_SOURCES:
                    match = FILE_HEADER.match(line)
                    if match:
                        broken.append(f"{name}:{number}: must not open files: {match.group(1)}")
                match = INCLUDE.match(line)
                if not match:
                    continue
                checked += 1
                if wrong(folder, match.group(1)):
                    broken.append(f"{name}:{number}: must not include {match.group(1)}")
    print("\n".join(broken) or f"{checked} includes, all within docs/architecture.md")
    return 1 if broken or checked == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
