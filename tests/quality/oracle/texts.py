"""Real text, as token ids, at whose every position logits are compared: first the texts of the
golden file, then the beginnings of this project's pages as the library tokenises them."""

import array
import struct
import subprocess
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LENGTH = 512
# Not the pages with figures, which would change what they report.
PAGES = ["README.md", "docs/architecture.md", "docs/abi.md", "docs/gguf.md", "docs/text.md",
         "docs/samples.md"]
TOKENIZER = ROOT / "build/release/tests/unit/text/tokenizer_cli"


def tokenise(program, model, text):
    """Ids of one text; special tokens are not recognised."""
    data = text.encode()
    done = subprocess.run([program, model], input=struct.pack("<I", len(data)) + data,
                          capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(f"{program}: {done.stderr.decode().strip()}")
    (count,) = struct.unpack_from("<I", done.stdout, 0)
    return array.array("i", done.stdout[4:4 + 4 * count]).tolist()


def belongs(arrays, model):
    """Whether the golden file was made with this model, and so its ids mean something to it."""
    data = Path(model).read_bytes()
    crc = int(arrays["model.crc32"][0]) & 0xffffffff
    return len(data) == int(arrays["model.bytes"][0]) and zlib.crc32(data) == crc


def golden_texts(arrays):
    """(name, ids) of each text."""
    i = 0
    while f"text{i}.tokens" in arrays:
        yield f"text {i}", arrays[f"text{i}.tokens"].tolist()
        i += 1


def page_texts(model, program=TOKENIZER):
    for page in PAGES:
        yield page, tokenise(program, model, (ROOT / page).read_text())[:LENGTH]


def first(sources, positions):
    """Whole texts of the sources, in order, until there are that many positions; at least one."""
    chosen, count = [], 0
    for source in sources:
        for name, ids in source:
            if chosen and count >= positions:
                return chosen
            chosen.append((name, ids))
            count += len(ids)
    if count < positions:
        raise ValueError(f"there are only {count} positions of text, {positions} are wanted")
    return chosen
