#!/usr/bin/env python3
"""Writes tests/data/tokenizer/golden.tsv: Hugging Face's ids of a few hundred short texts.

    python tests/quality/tokenizer/make_golden.py [MODEL]

One text a line: the text escaped (backslash, \\t, \\n, \\r, and \\xNN for every byte outside
printable ASCII), then the ids of each pre-tokenizer in the order of the header line, separated by
spaces; "=" stands for the ids of the column before. Lines that begin with "special" in the first
column were encoded with control tokens recognised, "text" without.
"""

import random
import sys
from pathlib import Path

import corpus
import reference

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "models/SmolLM2-135M-Instruct-Q4_1.gguf"
GOLDEN = ROOT / "tests/data/tokenizer/golden.tsv"


def escape(data):
    named = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r", 0x5C: "\\\\"}
    return "".join(named.get(b) or (chr(b) if 0x20 <= b < 0x7F else f"\\x{b:02X}") for b in data)


def choose():
    """A seeded choice of every group of the corpus but files, and some random bytes."""
    rng = random.Random(3)
    for name, group in corpus.texts(0):
        if name == "samples":
            chosen = group
        elif name == "code points":
            # Characters whose class depends on the Unicode version, or that \s is disputed for.
            points = [0x180E, 0x85, 0x1C89, 0xA7CB, 0x10D40, 0x11DE0, 0x16FF4, 0x11F50, 0x1E030,
                      0x2EBF0, 0x31350, 0x200B, 0xFEFF, 0xAD, 0x378, 0xE000, 0x10FFFF]
            chosen = [f"a{c} {c}.  {c}\n1{c}" for c in map(chr, points)]
        elif name == "long words":
            chosen = ["a" * 300, "ab" * 200, " " * 200 + "x", "\n" * 100, "7" * 60]
        else:
            chosen = [t[:40] for t in rng.sample(group, min(len(group), 28))]
        yield from (t.encode() for t in chosen)
    yield b""
    yield from (data[:40] for data in rng.sample(corpus.random_bytes(), 40))


def main():
    vocabulary = reference.Vocabulary(sys.argv[1] if len(sys.argv) > 1 else MODEL)
    lines = ["\t".join(["mode", "text", *reference.PRE_TOKENIZERS])]

    def add(mode, texts, special):
        tokenizers = [reference.build(vocabulary, pre, special)
                      for pre in reference.PRE_TOKENIZERS]
        for data in texts:
            columns = [mode, escape(data)]
            before = None
            for tokenizer in tokenizers:
                ids = (tokenizer.encode(data.decode(), add_special_tokens=False).ids if special
                       else reference.encode_bytes(tokenizer, data))
                ids = " ".join(map(str, ids))
                columns.append("=" if ids == before else ids)
                before = ids
            lines.append("\t".join(columns))

    add("text", choose(), special=False)
    marked = [t.encode() for t in corpus.with_special(vocabulary.control)[:40]]
    add("text", marked, special=False)
    add("special", marked, special=True)
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    GOLDEN.write_text("\n".join(lines) + "\n", encoding="ascii")
    print(f"{GOLDEN}: {len(lines) - 1} texts, {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
