#!/usr/bin/env python3
"""Runs the oracle and the library side by side and compares all logits of all positions.

    compare.py [--model MODEL.gguf] [--golden GOLDEN.bin] [--dump build/release/.../logits_dump]
               [--oracle float32] [--positions N]

The texts are the token ids of the golden file, whose numbers are not used; with --positions, as
many of them, and behind them of this project's pages, as it takes (see texts.py). Fails where the
largest error exceeds 1e-3, or the likeliest token differs at a position where the oracle is not in
doubt; then the same with fast math and F16 KV, where the mean KL over all positions must not exceed
0.004.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import divergence
import golden
import texts
from llama import Llama

ROOT = Path(__file__).resolve().parents[3]
NAME = "SmolLM2-135M-Instruct-Q4_1"
BAR = 1e-3
IN_DOUBT = 0.01  # top-two gap
FAST_BAR = 0.004  # mean KL, nats


def library_logits(dump, model, tokens, folder, *mode):
    np.asarray(tokens, "<i4").tofile(folder / "tokens")
    subprocess.run([dump, model, folder / "tokens", folder / "logits", *mode], check=True)
    return np.fromfile(folder / "logits", "<f4").reshape(len(tokens), -1)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / f"models/{NAME}.gguf")
    parser.add_argument("--golden", type=Path,
                        default=ROOT / "tests/data/oracle/smollm2-135m-q4_1.bin")
    parser.add_argument("--dump", type=Path,
                        default=ROOT / "build/release/tests/quality/logits_dump")
    parser.add_argument("--oracle", choices=["float64", "float32"], default="float64")
    parser.add_argument("--positions", type=int, help="at least N (default: the golden texts)")
    arguments = parser.parse_args()

    arrays = golden.read(arguments.golden)
    oracle = Llama(arguments.model, np.dtype(arguments.oracle).type)
    worst, wrong, fast_kl, positions = 0.0, 0, 0.0, 0
    chosen = list(texts.golden_texts(arrays))
    if arguments.positions:
        chosen = texts.first([chosen, texts.page_texts(arguments.model)], arguments.positions)
    for name, tokens in chosen:
        expected = oracle.logits_of(tokens)
        with tempfile.TemporaryDirectory() as folder:
            ours = library_logits(arguments.dump, arguments.model, tokens, Path(folder))
            fast = library_logits(arguments.dump, arguments.model, tokens, Path(folder), "fast")
        error = np.abs(expected - ours)
        top = np.sort(expected, axis=-1)[:, -2:]
        differs = expected.argmax(axis=-1) != ours.argmax(axis=-1)
        wrong += int((differs & (top[:, 1] - top[:, 0] >= IN_DOUBT)).sum())
        worst = max(worst, float(error.max())) if np.isfinite(error).all() else np.inf
        print(f"{name}: {error.size} logits of {len(tokens)} positions, max abs error "
              f"{error.max():.2e}, root mean square {np.sqrt((error ** 2).mean()):.2e}, mean KL "
              f"{divergence.by_position(expected, ours).mean():.1e}, likeliest token equal at "
              f"{int((~differs).sum())} of {len(tokens)}", flush=True)
        kl = divergence.by_position(expected, fast).mean()
        equal = int((expected.argmax(axis=-1) == fast.argmax(axis=-1)).sum())
        print(f"        fast math: mean KL {kl:.5f}, likeliest token equal at {equal}", flush=True)
        fast_kl += kl * len(tokens)
        positions += len(tokens)
    if not worst <= BAR or wrong:
        sys.exit(f"FAILED: max abs error {worst:.2e} (bar {BAR}), {wrong} wrong tokens")
    fast_kl /= positions
    if not fast_kl <= FAST_BAR:
        sys.exit(f"FAILED: mean KL of fast math {fast_kl:.5f} (bar {FAST_BAR})")
    print(f"passed: max abs error {worst:.2e} (bar {BAR}), mean KL of fast math {fast_kl:.5f} "
          f"(bar {FAST_BAR})")


if __name__ == "__main__":
    main()
