"""How far answers are from those of full prefill: runs tessera-quality, tables of what it found."""
import os
import statistics
import subprocess

import stats
from outcomes import METHODS, POOLED, QUESTIONS, Bad

REUSING = ",".join(METHODS[2:])
FEW = "full,mepic,none,head,default"
# name -> options of tessera-quality, and what part of the prompts it is run on.
SETS = {
    "main": (["--methods", REUSING], 1),
    "whole": (["--methods", "full,prefix"], 0.1),
    "small": (["--methods", REUSING, "--chunks", "8", "--chunk-tokens", "256"], 1),
    "questions": (["--methods", REUSING, "--questions", ",".join(QUESTIONS[2:])], 1),
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


def rows(run):
    """One a method and question."""
    questions = [q for q in QUESTIONS if any(where[1] == q for where in run.outcomes)]
    if set(POOLED.split("+")) <= set(questions):
        questions.append(POOLED)
    for question in questions:
        base = run.of("mepic", question)
        for method in METHODS:
            by_prompt = run.of(method, question)
            if by_prompt:
                yield row_of(run, method, question, by_prompt, base)


def row_of(run, method, question, by_prompt, base):
    outcomes = [outcome for found in by_prompt.values() for outcome in found]
    known = lambda name: [o[name] for o in outcomes if o.get(name) is not None]
    mean = lambda name: statistics.fmean(known(name)) if known(name) else None
    kl = stats.mean(stats.each(by_prompt, stats.kl))
    first = stats.mean(stats.each(by_prompt, stats.first_kl))
    row = {
        "kind": "quality",
        "method": method,
        "question": question,
        "n": len(by_prompt),
        "kl_mean": kl.value,
        "kl_mean_interval": [kl.low, kl.high],
        "kl_p90": stats.percentile([value for o in outcomes for value in o["kl"]], 0.9),
        "kl_first": first.value,
        "kl_first_interval": [first.low, first.high],
        "top1": mean("top1"),
        "recomputed": mean("recomputed"),
        "length_ratio": mean("length_ratio"),
        "hits": mean("hit"),
        "hits_full": mean("full_hit"),
        "bytes_private": mean("bytes_private"),
        "bytes_shared": mean("bytes_shared"),
        "ttft_ms": statistics.median(known("ttft_ms")) if known("ttft_ms") else None,
        **run.settings,
        "processors": sorted(run.processors),
    }
    both = [prompt for prompt in by_prompt if prompt in base]
    if both:
        ours, theirs = ({p: found[p] for p in both} for found in (by_prompt, base))
        for name, number in (("kl", stats.kl), ("first", stats.first_kl)):
            r = stats.ratio(stats.each(ours, number), stats.each(theirs, number))
            row[f"{name}_ratio"] = r.value
            row[f"{name}_ratio_interval"] = [r.low, r.high]
    return row


def shown(value, decimals):
    return "-" if value is None else f"{value:.{decimals}f}"


def interval(value, ends, decimals=3):
    return f"{value:.{decimals}f} [{ends[0]:.{decimals}f}, {ends[1]:.{decimals}f}]"


def table(run, found):
    """Lines."""
    yield f"{run.name}; KL to full prefill in nats, 95 % intervals"
    yield f"on {', '.join(sorted(run.processors))}"
    yield (f"{'question':<13}{'method':<11}{'n':>4}  {'KL':<22}{'p90':>6}  {'first token':<22}"
           f"{'top-1':>6}{'recomp':>8}{'length':>7}{'hits':>6}{'full':>6}  "
           f"{'KL / mepic':<18}first / mepic")
    for row in found:
        against = [
            interval(row[f"{name}_ratio"], row[f"{name}_ratio_interval"], 2)
            if f"{name}_ratio" in row else "-" for name in ("kl", "first")
        ]
        yield (f"{row['question']:<13}{row['method']:<11}{row['n']:>4}  "
               f"{interval(row['kl_mean'], row['kl_mean_interval']):<22}{row['kl_p90']:>6.3f}  "
               f"{interval(row['kl_first'], row['kl_first_interval']):<22}{row['top1']:>6.3f}"
               f"{row['recomputed']:>8.3f}{shown(row['length_ratio'], 2):>7}"
               f"{shown(row['hits'], 2):>6}{shown(row['hits_full'], 2):>6}  "
               f"{against[0]:<18}{against[1]}")


def bars(found):
    """Lines: what the pooled ratios should reach."""
    for row in found:
        if row["question"] != POOLED or row["method"] not in BARS or "kl_ratio" not in row:
            continue
        for name, bar in zip(("kl", "first"), BARS[row["method"]]):
            if bar is None:
                continue
            ratio = row[f"{name}_ratio"]
            what = "KL" if name == "kl" else "first token's KL"
            word = "met" if ratio <= bar else "MISSED"
            yield f"bar: {row['method']}, {what} at most {bar} times mepic's: {ratio:.2f}, {word}"


def q8_lines(runs):
    """What Q8_0 KV adds to each method, over prompts that both runs have."""
    for q8 in runs:
        wanted = {**q8.settings, "kv_type": "f16"}
        f16 = next((run for run in runs if run.settings == wanted), None)
        if q8.settings["kv_type"] != "q8_0" or f16 is None:
            continue
        for method in METHODS:
            left, right = q8.of(method, POOLED), f16.of(method, POOLED)
            both = [prompt for prompt in left if prompt in right]
            if not both:
                continue
            ours, theirs = ({p: found[p] for p in both} for found in (left, right))
            d = stats.difference(stats.each(ours, stats.kl), stats.each(theirs, stats.kl))
            yield {"kind": "q8_0", "method": method, "n": len(both), "math": q8.settings["math"],
                   "kl_added": d.value, "kl_added_interval": [d.low, d.high]}


def q8_table(found):
    yield "Q8_0 KV less F16 KV, both against full prefill over F16, fact and summary, KL in nats"
    for row in found:
        bar = f"  at most {Q8_BAR}: {'met' if row['kl_added'] <= Q8_BAR else 'MISSED'}"
        yield (f"{row['method']:<11}{row['math']:<10}{row['n']:>4}  "
               f"{interval(row['kl_added'], row['kl_added_interval'], 4)}"
               f"{bar if row['method'] == 'default' else ''}")


def cores():
    return len(os.sched_getaffinity(0))
