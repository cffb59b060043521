#!/usr/bin/env python3
"""Runs the oracle and the library side by side and compares all logits of all positions.

    compare.py [--model MODEL.gguf] [--golden GOLDEN.bin] [--dump build/release/.../logits_dump]
               [--oracle float32] [--texts N]

The texts are the token ids of the golden file, whose numbers are not used. Fails where the largest
error exceeds 1e-3, or the likeliest token differs at a position where the oracle is not in doubt;
then the same with fast math and F16 KV, where the mean KL over all positions must not exceed 0.004.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import golden
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


def divergence(expected, ours):
    """Mean over positions of KL(expected || ours), in nats."""
    def log_softmax(x):
        x = x - x.max(axis=-1, keepdims=True)
        return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
    p, q = log_softmax(expected), log_softmax(ours.astype(np.float64))
    return (np.exp(p) * (p - q)).sum(axis=-1).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / f"models/{NAME}.gguf")
    parser.add_argument("--golden", type=Path,
                        default=ROOT / "tests/data/oracle/smollm2-135m-q4_1.bin")
    parser.add_argument("--dump", type=Path,
                        default=ROOT / "build/release/tests/quality/logits_dump")
    parser.add_argument("--oracle", choices=["float64", "float32"], default="float64")
    parser.add_argument("--texts", type=int, default=1000, help="compare the first N only")
    arguments = parser.parse_args()

    arrays = golden.read(arguments.golden)
    oracle = Llama(arguments.model, np.dtype(arguments.oracle).type)
    worst, wrong, fast_kl, positions = 0.0, 0, 0.0, 0
    for i in range(arguments.texts):
        tokens = arrays.get(f"text{i}.tokens")
        if tokens is None:
            break
        expected = oracle.logits_of(tokens)
        with tempfile.TemporaryDirectory() as folder:
            ours = library_logits(arguments.dump, arguments.model, tokens, Path(folder))
            fast = library_logits(arguments.dump, arguments.model, tokens, Path(folder), "fast")
        error = np.abs(expected - ours)
        top = np.sort(expected, axis=-1)[:, -2:]
        differs = expected.argmax(axis=-1) != ours.argmax(axis=-1)
        wrong += int((differs & (top[:, 1] - top[:, 0] >= IN_DOUBT)).sum())
        worst = max(worst, float(error.max())) if np.isfinite(error).all() else np.inf
        print(f"text {i}: {error.size} logits of {len(tokens)} positions, max abs error "
              f"{error.max():.2e}, root mean square {np.sqrt((error ** 2).mean()):.2e}, mean KL "
              f"{divergence(expected, ours):.1e}, likeliest token equal at "
              f"{int((~differs).sum())} of {len(tokens)}", flush=True)
        kl = divergence(expected, fast)
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
