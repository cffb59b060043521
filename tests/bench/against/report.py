"""The tables that are printed, and the lines of the JSON file."""
import os
import pathlib
import re
import subprocess

import shares
from rounds import compare

OURS, THEIRS = "tessera", "llama.cpp"


def processor():
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else "unknown processor"


def our_version():
    """The project's version, and the commit where there is one."""
    text = pathlib.Path("CMakeLists.txt").read_text()
    version = re.search(r"project\(tessera VERSION (\S+)", text).group(1)
    git = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    except OSError:
        commit = ""
    return f"{version} ({commit})" if commit else version


def counted(count, noun):
    return f"{count} {noun}{'' if count == 1 else 's'}"


def machine_lines(limits, results, threads, others=None):
    """`others`: processors that other programs used meanwhile."""
    about = results.about.get(THEIRS, {})
    reads = [each["read_bytes_per_second"] / 1e9 for each in results.limits]
    rates = [each["int8_macs_per_second"] / 1e9 for each in results.limits]
    yield f"processor   {processor()}, {counted(threads, 'thread')}"
    if others is not None:
        busy = ": too much for these figures to mean anything" if others > 0.2 else ""
        yield f"            other programs used {others:.2f} of {os.cpu_count()} processors{busy}"
    yield f"limits      read {limits['read_bytes_per_second'] / 1e9:.1f} GB/s" + (
        f" ({min(reads):.1f} to {max(reads):.1f})"
    )
    if limits["int8_instruction"]:
        rate = limits["int8_macs_per_second"] / 1e9
        yield f"            {limits['int8_instruction']} {rate:.0f} GMAC/s" + (
            f" ({min(rates):.0f} to {max(rates):.0f})"
        )
    else:
        yield "            no int8 dot-product instruction: prompts have no share of a limit"
    yield f"tessera     {our_version()}, kernels {limits['kernels']}"
    buffers = ", ".join(
        f"{name} {size:.0f} MiB" for name, size in about.get("weight_buffers_mib", {}).items()
    )
    yield f"llama.cpp   {about.get('version', '?')}"
    yield f"            {' '.join(about.get('instruction_sets', []))}"
    yield f"            flash attention {about.get('flash_attention', '?')}; weights: {buffers}"


def percent(value):
    return "-" if value is None else f"{100 * value:.1f} %"


def table_lines(results, costs, limits, kv_type):
    yield (
        f"{'test':<14}{'tessera':>10}{'llama.cpp':>11}{'ratio':>8}  {'least-most':<14}"
        f"{'of limit:':<11}{'tessera':>8}{'llama.cpp':>11}"
    )
    for test, by_program in results.speeds.items():
        c = compare(by_program[OURS], by_program[THEIRS])
        of = "read" if shares.parts(test)[0] == "tg" else "int8"
        spread = f"{c.least:.2f}-{c.most:.2f}"
        yield (
            f"{test:<14}{c.ours:>10.1f}{c.theirs:>11.1f}{c.ratio:>8.2f}  {spread:<14}{of:<11}"
            f"{percent(shares.share(test, c.ours, costs, limits, kv_type)):>8}"
            f"{percent(shares.share(test, c.theirs, costs, limits, kv_type)):>11}"
        )


def model_line(model, costs, kv_type, rounds):
    types = " and ".join(costs["weight_bytes_by_type"])
    return (
        f"{model.path.stem} ({types}): {costs['weight_bytes'] / 1e6:.1f} MB of weights and "
        f"{costs['linear_macs'] / 1e6:.1f} MMAC a token; KV {kv_type}; tokens a second, "
        f"median of {rounds}"
    )


def json_rows(model, results, costs, limits, options, others=None):
    """A row with everything that holds for the model's run, then one a test."""
    yield {
        "kind": "run",
        "model": model.path.stem,
        "processor": processor(),
        "threads": options.threads,
        "processors_of_others": others,
        "kv_type": options.kv,
        "rounds": options.rounds,
        "tessera": {"version": our_version(), "kernels": limits["kernels"]},
        "llama.cpp": results.about.get(THEIRS, {}),
        "costs": costs,
        "limits": results.limits,
    }
    for test, by_program in results.speeds.items():
        c = compare(by_program[OURS], by_program[THEIRS])
        yield {
            "kind": "test",
            "model": model.path.stem,
            "test": test,
            "tokens_per_second": {OURS: c.ours, THEIRS: c.theirs},
            "rounds": by_program,
            "ratio": c.ratio,
            "ratio_least": c.least,
            "ratio_most": c.most,
            "share_of": "read" if shares.parts(test)[0] == "tg" else "int8",
            "share": {
                name: shares.share(test, speed, costs, limits, options.kv)
                for name, speed in ((OURS, c.ours), (THEIRS, c.theirs))
            },
        }
