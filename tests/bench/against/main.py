#!/usr/bin/env python3
"""./dev bench --against llama.cpp: both programs on the same file, in turn. See docs/cpu.md."""
import contextlib
import json
import pathlib
import sys

import options as option
import plot
import report
from neighbours import Neighbours
from rounds import Failed, interleave, median_limits, rows

HERE = pathlib.Path(__file__).resolve().parent
TOOLS = pathlib.Path("build/release/tests/bench")
TESSERA_BENCH = pathlib.Path("build/bin/tessera-bench")
PROMPT, GENERATE = 512, 128


def say(text):
    print(text, file=sys.stderr, flush=True)


def programs(model, options):
    def run(command):
        def at(depth):
            arguments = ["--model", model.path, "--pp", PROMPT, "--tg", GENERATE, "--depth", depth]
            arguments += ["--threads", options.threads, "--kv-type", options.kv]
            return rows([*command, *arguments, "--repetitions", 1, "--json"])

        return at

    peer = [sys.executable, HERE / "peer.py"]
    return {report.OURS: run([TESSERA_BENCH]), report.THEIRS: run(peer)}


def prepare(model, options):
    """Writes the file if it is one of random weights; what a token costs."""
    if model.shape and not model.path.exists():
        say(f"writing {model.path}")
        model.path.parent.mkdir(parents=True, exist_ok=True)
        rows([TOOLS / "random_model", model.shape, model.type, model.path])
    costs = rows([TOOLS / "model_costs", model.path])[0]
    needed = max(options.depths) + max(PROMPT, GENERATE + 1)
    if needed > costs["context"]:
        raise Failed(
            f"{model.path.name} has a context of {costs['context']} tokens; "
            f"depth {max(options.depths)} needs {needed}"
        )
    return costs


def measure(model, options, log):
    costs = prepare(model, options)
    say(f"measuring {model.path.stem}")
    neighbours = Neighbours()
    measured = interleave(
        options.rounds,
        options.depths,
        programs(model, options),
        lambda: rows([TOOLS / "machine_limits", options.threads])[0],
        say,
    )
    others = neighbours.processors()
    limits = median_limits(measured.limits)
    lines = report.machine_lines(limits, measured, options.threads, others)
    print("\n".join(lines), end="\n\n")
    print(report.model_line(model, costs, options.kv, options.rounds))
    print("\n".join(report.table_lines(measured, costs, limits, options.kv)), flush=True)
    for row in report.json_rows(model, measured, costs, limits, options, others):
        if log:
            print(json.dumps(row), file=log, flush=True)
    picture = pathlib.Path("build/peer") / f"{model.path.stem}-{options.kv}.png"
    threads = report.counted(options.threads, "thread")
    title = f"{model.path.stem}, {threads}, {report.processor()}"
    plot.draw(picture, title, measured.speeds)
    print(f"picture: {picture}", end="\n\n", flush=True)


def main():
    options = option.parse(sys.argv[1:])
    if options.check:
        return 0
    try:
        log = open(options.json, "w") if options.json else None
        with log or contextlib.nullcontext():
            if options.quality:
                import quality  # needs numpy and gguf

                quality.measure(option.models(options)[0].path, options, log, say)
                return 0
            for model in option.models(options):
                measure(model, options, log)
    except (Failed, OSError) as error:
        say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
