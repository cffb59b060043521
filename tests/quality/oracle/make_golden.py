#!/usr/bin/env python3
"""Writes golden files: what the oracle (llama.py) says of a GGUF model.

    make_golden.py text MODEL.gguf OUT.bin     a model with a smollm tokenizer: 3 texts of 512
                                               tokens and 20 greedy continuations (needs PyPI
                                               tokenizers)
    make_golden.py random OUT_FOLDER MODEL...  any models: random ids, all logits kept

Arrays of a golden file:
    model.bytes, model.crc32          the file that they belong to
    text<i>.tokens                    ids
    text<i>.rows, .logits             logits [rows, vocabulary] at these positions
    probes, text<i>.probe_logits      logits of these ids at every position (text only)
    text<i>.top_ids, .top_logits      the five largest at every position (text only)
    greedy<i>.prompt, .tokens, .gaps  a continuation; how far each token leads the second best
"""

import argparse
import sys
import zlib
from pathlib import Path

import numpy as np

import golden
import prompts
from llama import Llama

PROBES = 48
LENGTH = 512


def describe(path):
    data = Path(path).read_bytes()
    crc = np.array([zlib.crc32(data)], np.uint32).astype(np.int32)
    return {"model.bytes": np.array([len(data)], np.int32), "model.crc32": crc}


def continuations(model, starts, steps):
    tokens, gaps = model.greedy(starts, steps)
    arrays = {}
    for i, start in enumerate(starts):
        arrays[f"greedy{i}.prompt"] = np.array(start)
        arrays[f"greedy{i}.tokens"] = tokens[i]
        arrays[f"greedy{i}.gaps"] = gaps[i]
    return arrays


def text_golden(path, out):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tokenizer"))
    import reference  # the Hugging Face tokenizer of the file
    tokenizer = reference.build(reference.Vocabulary(path), "smollm", special=True)
    model = Llama(path)
    # Spread over the vocabulary, special tokens and the last id included.
    probes = np.unique(np.linspace(0, model.vocabulary - 1, PROBES).astype(int))
    arrays = describe(path) | {"probes": probes}
    for i, text in enumerate(prompts.texts()):
        tokens = tokenizer.encode(text, add_special_tokens=False).ids[:LENGTH]
        assert len(tokens) == LENGTH
        logits = model.logits_of(tokens)
        top = np.argsort(-logits, axis=-1, kind="stable")[:, :5]
        rows = np.array([LENGTH // 3, LENGTH - 1])
        arrays |= {f"text{i}.tokens": np.array(tokens), f"text{i}.rows": rows,
                   f"text{i}.logits": logits[rows], f"text{i}.probe_logits": logits[:, probes],
                   f"text{i}.top_ids": top,
                   f"text{i}.top_logits": np.take_along_axis(logits, top, -1)}
        print(f"text {i}: {LENGTH} tokens, {tokenizer.decode(tokens[:12])!r}...")
    starts = [tokenizer.encode(p, add_special_tokens=False).ids for p in prompts.short_prompts()]
    arrays |= continuations(model, starts, 48)
    for i in range(len(starts)):
        print(f"{tokenizer.decode(starts[i])[-40:]!r} -> "
              f"{tokenizer.decode(arrays[f'greedy{i}.tokens'].tolist())[:60]!r}, "
              f"smallest gap {arrays[f'greedy{i}.gaps'].min():.3f}")
    golden.write(out, arrays)


def random_golden(path, out):
    model = Llama(path)
    random = np.random.default_rng(1)
    tokens = random.integers(0, model.vocabulary, 64)
    starts = [random.integers(0, model.vocabulary, n) for n in (3, 20)]
    logits = model.logits_of(tokens)
    arrays = describe(path) | {"text0.tokens": tokens, "text0.rows": np.arange(len(tokens)),
                               "text0.logits": logits}
    arrays |= continuations(model, starts, 24)
    golden.write(out, arrays)
    print(f"{out}: logits from {logits.min():.2f} to {logits.max():.2f}, smallest gap "
          f"{min(arrays[f'greedy{i}.gaps'].min() for i in range(len(starts))):.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    text = commands.add_parser("text")
    text.add_argument("model")
    text.add_argument("out")
    random = commands.add_parser("random")
    random.add_argument("folder", type=Path)
    random.add_argument("models", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.command == "text":
        text_golden(arguments.model, arguments.out)
    else:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        for model in arguments.models:
            random_golden(model, arguments.folder / (model.stem + ".bin"))


if __name__ == "__main__":
    main()
