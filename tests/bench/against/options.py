"""The options of ./dev bench --against llama.cpp, checked before anything is built."""
import argparse
import os
import pathlib
import sys
from dataclasses import dataclass

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "common"))

from arguments import file, number

DEFAULT_MODEL = pathlib.Path("models/SmolLM2-135M-Instruct-Q4_1.gguf")
TYPES = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
SHAPES = ("135M", "1B")
MODELS = pathlib.Path("build/peer/models")  # of random weights, written once


@dataclass(frozen=True)
class Model:
    path: pathlib.Path
    shape: str = ""  # of random weights; empty: the file is there already
    type: str = ""


def listed(parse):
    def parse_all(text):
        values = [parse(part) for part in text.split(",")]
        if len(set(values)) < len(values):
            raise argparse.ArgumentTypeError(f"'{text}' names something twice")
        return values

    return parse_all


def weight_type(text):
    if text.upper() not in TYPES:
        raise argparse.ArgumentTypeError(f"'{text}' is not a type of {', '.join(TYPES)}")
    return text.upper()


def parser():
    cores = len(os.sched_getaffinity(0))
    p = argparse.ArgumentParser(
        prog="./dev bench",
        description="Speed against another runtime, on the same file.",
        allow_abbrev=False,
    )
    p.add_argument("--against", required=True, choices=["llama.cpp"])
    p.add_argument("--model", type=file, help="GGUF file (default: the default model)")
    p.add_argument(
        "--types", type=listed(weight_type), help="random weights of these types: Q4_1,Q8_0,..."
    )
    p.add_argument("--shape", choices=SHAPES, help="of the random weights (default: 135M)")
    p.add_argument(
        "--threads", type=number(1, 1024), default=cores, help=f"of both (default: {cores})"
    )
    p.add_argument("--rounds", type=number(1, 1000), default=5, help="of both (default: 5)")
    p.add_argument(
        "--depths",
        type=listed(number(0, 1_000_000)),
        default=[0, 4096],
        help="tokens in the context before each test (default: 0,4096)",
    )
    p.add_argument("--kv", choices=["f16", "q8_0"], default="f16", help="type of the KV cache")
    p.add_argument(
        "--quality", action="store_true", help="exactness instead: KL of both to the fp32 oracle"
    )
    p.add_argument(
        "--positions",
        type=number(1, 1_000_000),
        default=2048,
        help="with --quality: of text, at least (default: 2048)",
    )
    p.add_argument("--json", help="also write one JSON object a line to this file")
    p.add_argument("--check", action="store_true", help=argparse.SUPPRESS)  # parse, do nothing
    return p


def parse(arguments):
    p = parser()
    options = p.parse_args(arguments)
    if options.model and options.types:
        p.error("--model and --types exclude each other")
    if options.shape and not options.types:
        p.error("--shape is for random weights: give --types too")
    for name in ("types", "shape", "rounds", "depths", "kv") if options.quality else ("positions",):
        if getattr(options, name) != p.get_default(name):
            p.error(f"--{name} is {'not for' if options.quality else 'for'} --quality")
    return options


def models(options):
    if options.types:
        shape = options.shape or SHAPES[0]
        return [Model(MODELS / f"{shape}-{t}.gguf", shape, t) for t in options.types]
    return [Model(options.model or DEFAULT_MODEL)]
