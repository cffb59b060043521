"""How far answers are from those of full prefill: runs tessera-quality, judges what it found."""
import json
import os
import subprocess

POOLED = "fact+summary"
REUSING = "reuse,epic,cacheblend,mepic,none,head,select,default"
FEW = "full,mepic,none,head,default"
# name -> options of tessera-quality, and what part of the prompts it is run on.
SETS = {
    "main": (["--methods", REUSING], 1),
    "whole": (["--methods", "full,prefix"], 0.1),
    "small": (["--methods", REUSING, "--chunks", "8", "--chunk-tokens", "256"], 1),
    "questions": (["--methods", REUSING, "--questions", "two_hop,override,order,twice"], 1),
    "q8_0": (["--methods", "mepic,none,head,select,default", "--kv-type", "q8_0"], 1),
    # What any change of rounding does: the floor of what fast math can tell apart.
    "noise": (["--methods", "full", "--kv-type", "f32"], 0.1),
    # Without that; slow, so only where it is asked for.
    "exact": (["--methods", FEW, "--math", "reference"], 0.2),
    "exact_q8_0": (["--methods", FEW, "--math", "reference", "--kv-type", "q8_0"], 0.2),
}
USUAL = ("main", "whole", "small", "questions", "q8_0", "noise")
# method, against mepic: at most so many times its KL, and its KL of the first token
BARS = {"none": (1.15, None), "head": (0.7, 0.3), "default": (0.45, 0.2)}
Q8_BAR = 0.001  # nats that Q8_0 may add


class Bad(Exception):
    """What was run or read is not what it should be; the message says how."""


def run(program, name, options, folder, say):
    """The files that processes wrote which shared the prompts of one set."""
    arguments, part = SETS[name]
    if "--questions" not in arguments:
        arguments = [*arguments, "--questions", POOLED.replace("+", ",")]
    prompts = max(1, round(options.prompts * part))
    processes = min(options.processes, prompts)
    threads = max(1, options.threads // processes)
    say(f"quality, {name}: {prompts} prompts, {processes} processes of {threads} threads")
    paths, running = [], []
    for p in range(processes):
        first, end = prompts * p // processes, prompts * (p + 1) // processes
        paths.append(folder / f"{name}.{p}.jsonl")
        command = [program, "--texts", options.texts, "--model", options.model, *arguments]
        command += ["--first-prompt", first, "--prompts", end - first, "--threads", threads]
        command += ["--raw", paths[-1]]
        with open(folder / f"{name}.{p}.log", "w") as log:
            running.append(
                subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=log)
            )
    codes = [process.wait() for process in running]
    for p, code in enumerate(codes):
        if code:
            said = (folder / f"{name}.{p}.log").read_text().strip().splitlines()[-1:]
            raise Bad(f"tessera-quality ended with {code}: {''.join(said)}")
    return paths


def summary(program, paths):
    """Prints what tessera-quality tells of outcomes in these files; its rows."""
    command = [str(part) for part in (program, "--pool", *paths)]
    if subprocess.run(command).returncode:
        raise Bad("tessera-quality could not read what --raw wrote")
    done = subprocess.run([*command, "--json"], stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def runs(found):
    """Rows of quality, those of the same settings together."""
    by_number = {}
    for row in found:
        if row["kind"] == "quality":
            by_number.setdefault(row["run"], []).append(row)
    return list(by_number.values())


def verdict(is_met):
    return "met" if is_met else "MISSED"


def bars(found):
    """Lines: what the pooled ratios of one run should reach."""
    for row in found:
        if row["question"] != POOLED or row["method"] not in BARS or "kl_ratio" not in row:
            continue
        bar_kl, bar_first = BARS[row["method"]]
        for name, what, bar in (("kl", "KL", bar_kl), ("first", "first token's KL", bar_first)):
            ratio = row[f"{name}_ratio"]
            if bar is not None:
                yield (f"bar: {row['method']}, {what} at most {bar} times mepic's: {ratio:.2f}, "
                       f"{verdict(ratio <= bar)}")


def q8_bars(found):
    """Lines: what Q8_0 KV may add."""
    for row in found:
        if row["kind"] == "q8_0" and row["method"] == "default":
            yield (f"bar: Q8_0 KV adds at most {Q8_BAR} to default's KL, {row['math']} math: "
                   f"{row['kl_added']:.4f}, {verdict(row['kl_added'] <= Q8_BAR)}")


def cores():
    return len(os.sched_getaffinity(0))
