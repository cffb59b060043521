"""./dev bench --against llama.cpp --quality: how far both programs' logits are from the oracle's,
at the same positions of the same texts. See docs/cpu.md."""
import json
import pathlib
import sys
import tempfile

import report
from rounds import Failed, rows

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
ORACLE = ROOT / "tests/quality/oracle"
GOLDEN = ROOT / "tests/data/oracle/smollm2-135m-q4_1.bin"
LOGITS_DUMP = ROOT / "build/release/tests/quality/logits_dump"
PEER_PYTHON = ROOT / "build/peer/venv/bin/python3"
RATIO_BAR, KL_BAR = 1.1, 0.004

sys.path.insert(0, str(ORACLE))


def chosen_texts(model, positions):
    """(name, ids); the golden texts only where their ids are this model's."""
    import golden
    import texts

    arrays = golden.read(GOLDEN)
    own = texts.golden_texts(arrays) if texts.belongs(arrays, model) else []
    try:
        return texts.first([own, texts.page_texts(model)], positions)
    except (ValueError, RuntimeError) as error:
        raise Failed(str(error)) from error


def commands(model, threads):
    """Program -> the command that is completed by the files TOKENS and LOGITS, and what follows."""
    peer = [PEER_PYTHON, HERE / "peer_logits.py", "--model", model, "--threads", threads]
    return {report.OURS: ([LOGITS_DUMP, model], ["fast"]), report.THEIRS: (peer, [])}


def logits_of(command, tokens, folder):
    """The program's logits of every position, and its "about" row if it has one."""
    import numpy

    numpy.asarray(tokens, "<i4").tofile(folder / "tokens")
    (folder / "logits").unlink(missing_ok=True)
    before, after = command
    said = rows([*before, folder / "tokens", folder / "logits", *after])
    logits = numpy.fromfile(folder / "logits", "<f4").reshape(len(tokens), -1)
    if not numpy.isfinite(logits).all():
        raise Failed(f"{before[0]}: logits that are not numbers")
    return logits, (said[0]["about"] if said else {})


class Tally:
    """KL and agreement of one program, over all positions so far."""

    def __init__(self):
        self.kl, self.agrees = [], []

    def add(self, kl, agrees):
        self.kl += [float(value) for value in kl]
        self.agrees += [bool(value) for value in agrees]

    def summary(self):
        count = len(self.kl)
        return {
            "mean_kl": sum(self.kl) / count,
            "p90_kl": sorted(self.kl)[min(count - 1, count * 9 // 10)],
            "top1": sum(self.agrees) / count,
        }


def lines(summaries, positions):
    ours, theirs = summaries[report.OURS], summaries[report.THEIRS]
    yield f"{positions} positions, KL to the oracle in nats"
    yield f"{'':<12}{'mean KL':>10}{'p90':>10}{'likeliest token equal':>24}"
    for name, s in summaries.items():
        yield f"{name:<12}{s['mean_kl']:>10.5f}{s['p90_kl']:>10.5f}{100 * s['top1']:>22.2f} %"
    ratio = ours["mean_kl"] / theirs["mean_kl"]
    yield f"ratio {ratio:.2f} (bar {RATIO_BAR}), bar of mean KL {KL_BAR}: " + (
        "met" if ratio <= RATIO_BAR and ours["mean_kl"] <= KL_BAR else "MISSED"
    )


def measure(model, options, log, say):
    import divergence
    from llama import Llama

    chosen = chosen_texts(model, options.positions)
    programs = commands(model, options.threads)
    tallies, about = {name: Tally() for name in programs}, {}
    try:
        oracle = Llama(model)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise Failed(f"the oracle cannot read this model: {error}") from error
    with tempfile.TemporaryDirectory() as folder:
        for name, tokens in chosen:
            expected = oracle.logits_of(tokens)
            said = []
            for program, command in programs.items():
                logits, about[program] = logits_of(command, tokens, pathlib.Path(folder))
                if logits.shape != expected.shape:
                    raise Failed(f"{program}: {logits.shape[1]} logits a position")
                kl = divergence.by_position(expected, logits)
                tallies[program].add(kl, expected.argmax(axis=-1) == logits.argmax(axis=-1))
                said.append(f"{program} mean KL {kl.mean():.5f}")
            say(f"{name}, {len(tokens)} positions: " + ", ".join(said))
    summaries = {name: tally.summary() for name, tally in tallies.items()}
    positions = sum(len(tokens) for _, tokens in chosen)
    peer = about[report.THEIRS]
    print(f"processor   {report.processor()}")
    print(f"tessera     {report.our_version()}, fast mode, KV F16")
    print(f"llama.cpp   {peer['version']}, KV F16")
    print(f"            {' '.join(peer['instruction_sets'])}", end="\n\n")
    print(f"{model.stem}: " + "\n".join(lines(summaries, positions)), flush=True)
    if log:
        row = {"kind": "quality", "model": model.stem, "processor": report.processor()}
        row |= {"positions": positions, "texts": [name for name, _ in chosen]}
        row |= {name: s | about[name] for name, s in summaries.items()}
        print(json.dumps(row), file=log, flush=True)
