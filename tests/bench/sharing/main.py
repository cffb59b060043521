#!/usr/bin/env python3
"""./dev bench sharing: tables; pictures and JSON in build/bench/sharing. See docs/sharing.md."""
import json
import pathlib
import subprocess
import sys

import options as option
import plot
import quality

TOOLS = pathlib.Path("build/release/tests/bench")
TINY = option.FOLDER / "tiny.gguf"


def say(text):
    print(text, file=sys.stderr, flush=True)


def log(name, rows):
    with open(option.FOLDER / f"{name}.jsonl", "w") as file:
        for row in rows:
            print(json.dumps(row), file=file)


def measure_quality(options):
    program = TOOLS / "quality/tessera-quality"
    paths = list(options.raw)
    if not paths:
        raw = option.FOLDER / "raw"
        raw.mkdir(exist_ok=True)
        for name in options.sets:
            paths += quality.run(program, name, options, raw, say)
    rows = quality.summary(program, paths)
    log("quality", rows)
    for run in quality.runs(rows):
        s = run[0]
        if s["kv_type"] != "f16" or s["math"] != "fast":
            continue
        shape = f"{s['chunks']}x{s['chunk_tokens']}"
        print(f"\n{shape}")
        for line in quality.bars(run):
            print(line)
        picture = option.FOLDER / f"quality-{shape}.png"
        plot.quality(picture, f"{s['model']}, {shape}", run)
        print(f"picture: {picture}")
    for line in quality.q8_bars(rows):
        print(line)


def sharing_bench(part, options, model):
    """What it prints, it prints itself; its rows."""
    path = option.FOLDER / f"{part}.jsonl"
    command = [TOOLS / "sharing/sharing_bench", "--only", part, "--model", model, "--json", path]
    command += ["--threads", options.threads, "--rounds", options.rounds]
    subprocess.run([str(c) for c in command], check=True)
    return [json.loads(line) for line in path.read_text().splitlines()]


def measure_memory(options):
    # Pages do not depend on a model's size.
    subprocess.run([TOOLS / "random_model", "tiny", "F16", TINY], check=True)
    rows = [row for row in sharing_bench("memory", options, TINY) if row["kind"] == "memory"]
    picture = option.FOLDER / "memory.png"
    plot.memory(picture, "200 chunks of 256 tokens, Zipf 1.0, pages of 16, 64 new tokens", rows)
    print(f"picture: {picture}", flush=True)


def main():
    options = option.parse(sys.argv[1:])
    if options.check:
        return 0
    option.FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        if "first_token" in options.only:
            sharing_bench("first_token", options, options.model)
        if "memory" in options.only:
            measure_memory(options)
        if "quality" in options.only:
            measure_quality(options)
    except (quality.Bad, OSError) as error:
        say(f"bench: {error}")
        return 1
    except subprocess.CalledProcessError as error:
        return error.returncode
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
