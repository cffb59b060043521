#!/usr/bin/env python3
"""Compares tokenizer_cli with Hugging Face `tokenizers` built from the same GGUF file.

    python tests/quality/tokenizer_parity.py [--cli PROGRAM] [--model FILE] [--megabytes N]

For each pre-tokenizer: equal words, equal ids and exact round trips over
tests/quality/tokenizer/corpus.py, with the vocabulary as it is and completed by tokens for bytes
that it lacks. Exits with 1 on any difference and prints the first ones.
"""

import argparse
import array
import re
import struct
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).resolve().parent / "tokenizer"))
import corpus  # noqa: E402
import reference  # noqa: E402


def run_cli(program, model, pre, options, frames):
    """[(ids, decoded bytes)] of each frame, and seconds of encoding on one thread."""
    command = [program, model, "--pre", pre, *options]
    stdin = b"".join(struct.pack("<I", len(f)) + f for f in frames)
    done = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.decode()}")
    out, at, results = done.stdout, 0, []
    for _ in frames:
        (count,) = struct.unpack_from("<I", out, at)
        ids = array.array("i", out[at + 4:at + 4 + 4 * count]).tolist()
        at += 4 + 4 * count
        (size,) = struct.unpack_from("<I", out, at)
        results.append((ids, out[at + 4:at + 4 + size]))
        at += 4 + size
    assert at == len(out)
    return results, float(re.search(r"bytes ([\d.]+) seconds", done.stderr.decode())[1])


class Count:
    def __init__(self):
        self.frames = self.bytes = self.ids = self.trips = self.tokens = 0
        self.seconds = 0.0
        self.shown = 0

    def compare(self, name, vocabulary, frames, expected, results):
        for data, want, (ids, decoded) in zip(frames, expected, results):
            self.frames += 1
            self.bytes += len(data)
            self.tokens += len(ids)
            self.ids += ids == want
            trip = decoded == vocabulary.encodable(data)
            self.trips += trip
            if (ids != want or not trip) and self.shown < 5:
                self.shown += 1
                first = next((i for i, (a, b) in enumerate(zip(ids, want)) if a != b), -1)
                print(f"  {name}: {data[:120]!r}\n    round trip {trip}, first difference {first}"
                      f"\n    ours {ids[max(first - 2, 0):first + 8]}"
                      f"\n    HF   {want[max(first - 2, 0):first + 8]}")

    def ok(self):
        return self.frames > 0 and self.ids == self.frames and self.trips == self.frames


def check_words(arguments, pre, texts):
    """The pre-tokenizer alone: here differences show that few vocabularies would reveal."""
    vocabulary = reference.Vocabulary(arguments.model, complete=True)
    theirs = reference.pre_tokenizer(pre)
    count = Count()
    for name, group in texts:
        frames = [t.encode() for t in group]
        expected = [[len(word) for word, _ in theirs.pre_tokenize_str(t)] for t in group]
        results, _ = run_cli(arguments.cli, arguments.model, pre, ["--split"], frames)
        count.compare(name + " (words)", vocabulary, frames, expected, results)
    print(f"{pre:22} {count.frames:7} texts {count.bytes / 1e6:6.1f} MB {count.tokens:8} words   "
          f"equal    {count.ids / count.frames:9.3%}", flush=True)
    return count.ok()


def check(arguments, pre, complete, texts):
    vocabulary = reference.Vocabulary(arguments.model, complete)
    plain = reference.build(vocabulary, pre, special=False)
    special = reference.build(vocabulary, pre, special=True)
    count = Count()

    def one(name, frames, encode, parse_special):
        expected = encode(frames)
        options = ["--complete-bytes"] * complete + ["--special"] * parse_special
        results, seconds = run_cli(arguments.cli, arguments.model, pre, options, frames)
        count.seconds += seconds
        count.compare(name, vocabulary, frames, expected, results)

    def batch(tokenizer):
        return lambda frames: [e.ids for e in tokenizer.encode_batch_fast(
            [f.decode() for f in frames], add_special_tokens=False)]

    for name, group in texts:
        if not (complete and name == "prose and code"):  # it has none of those bytes
            one(name, [t.encode() for t in group], batch(plain), False)
    marked = [t.encode() for t in corpus.with_special(vocabulary.control)]
    one("special tokens parsed", marked, batch(special), True)
    one("special tokens as text", marked, batch(plain), False)
    one("random bytes", corpus.random_bytes(),
        lambda frames: [reference.encode_bytes(plain, f) for f in frames], False)
    label = pre + (" + all bytes" if complete else "")
    print(f"{label:22} {count.frames:7} texts {count.bytes / 1e6:6.1f} MB {count.tokens:8} tokens  "
          f"equal ids {count.ids / count.frames:.3%}, "
          f"round trips {count.trips / count.frames:.3%}, "
          f"{count.bytes / 1e6 / count.seconds:.1f} MB/s", flush=True)
    return count.ok()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--cli", default=str(ROOT / "build/release/tests/unit/text/tokenizer_cli"))
    parser.add_argument("--model", default=str(ROOT / "models/SmolLM2-135M-Instruct-Q4_1.gguf"))
    parser.add_argument("--megabytes", type=float, default=4, help="of prose and code")
    arguments = parser.parse_args()
    texts = list(corpus.texts(arguments.megabytes))
    missing = reference.Vocabulary(arguments.model).missing
    print(f"{len(missing)} bytes have no token: {missing.hex(' ')}")
    results = [check_words(arguments, pre, texts) for pre in reference.PRE_TOKENIZERS]
    results += [check(arguments, pre, complete, texts)
                for pre in reference.PRE_TOKENIZERS for complete in (False, True)]
    print("all equal" if all(results) else "DIFFERENCES")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
