"""The options of ./dev bench sharing, checked before anything is built."""
import argparse
import pathlib
import sys

import quality

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "common"))

from arguments import file, number

PARTS = ("quality", "first_token", "memory")
DEFAULT_MODEL = pathlib.Path("models/SmolLM2-135M-Instruct-Q4_1.gguf")
FOLDER = pathlib.Path("build/bench/sharing")
TEXTS = FOLDER / "texts"  # where ./dev puts them
COUNT = number(1, 1_000_000)


def some_of(names):
    def parse(text):
        chosen = text.split(",")
        for name in chosen:
            if name not in names:
                raise argparse.ArgumentTypeError(f"'{name}' is none of {', '.join(names)}")
        return chosen

    return parse


def folder(text):
    path = pathlib.Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return path


def parser():
    cores = quality.cores()
    p = argparse.ArgumentParser(
        prog="./dev bench sharing",
        description="Sharing of chunks: quality, time to the first token, memory.",
        allow_abbrev=False,
    )
    p.add_argument("--only", type=some_of(PARTS), default=list(PARTS), help=", ".join(PARTS))
    p.add_argument("--model", type=file, default=DEFAULT_MODEL, help="GGUF file")
    p.add_argument("--threads", type=COUNT, default=cores, help=f"in all (default: {cores})")
    p.add_argument("--rounds", type=COUNT, default=7, help="of first_token (default: 7)")
    p.add_argument("--prompts", type=COUNT, default=100,
                   help="of each question of quality (default: 100)")
    p.add_argument("--sets", type=some_of(list(quality.SETS)), default=list(quality.USUAL),
                   help=f"of quality: {', '.join(quality.SETS)} (all but the last two)")
    p.add_argument("--processes", type=COUNT, default=max(1, cores // 2),
                   help="that share the prompts of quality")
    p.add_argument("--texts", type=folder,
                   help="folder of .txt and .md files (default: pages of Python's documentation)")
    p.add_argument("--raw", type=file, nargs="+", default=[],
                   help="tables and pictures of what tessera-quality --raw wrote; no model is run")
    p.add_argument("--check", action="store_true", help=argparse.SUPPRESS)  # parse, do nothing
    return p


def parse(arguments):
    options = parser().parse_args(arguments)
    if options.raw:
        options.only = ["quality"]
    options.texts = options.texts or TEXTS
    return options
