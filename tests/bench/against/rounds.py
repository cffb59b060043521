"""Runs programs in turn, A B A B ..., and sums up what they say."""
import json
import statistics
import subprocess
from dataclasses import dataclass


class Failed(Exception):
    """A program did not do its work; the message says which and why."""


def rows(command):
    """The JSON objects, one a line, that a program prints."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-10:])
        raise Failed(f"{' '.join(map(str, command))}\nended with {done.returncode}\n{said}")
    try:
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    except json.JSONDecodeError as error:
        raise Failed(f"{command[0]}: not JSON: {error}") from error


@dataclass
class Results:
    speeds: dict  # test -> program -> tokens a second, one a round
    about: dict  # program -> its "about" row, if it has one
    limits: list  # one a round


def interleave(rounds, depths, programs, limits, tell=lambda text: None):
    """`programs`: name -> function of a depth that gives rows; `limits`: function that measures.

    Each round measures the machine's limits and then, depth by depth, each program once.
    """
    results = Results({}, {}, [])
    for turn in range(1, rounds + 1):
        results.limits.append(limits())
        for depth in depths:
            said = []
            for name, run in programs.items():
                for row in run(depth):
                    if "about" in row:
                        results.about[name] = row["about"]
                        continue
                    speed = row["tokens_per_second"]
                    by_program = results.speeds.setdefault(row["test"], {})
                    by_program.setdefault(name, []).append(speed)
                    said.append(f"{name} {row['test']} {speed:.1f}")
            tell(f"round {turn} of {rounds}: " + ", ".join(said))
    return results


@dataclass(frozen=True)
class Comparison:
    ours: float  # medians, tokens a second
    theirs: float
    ratio: float  # the median of the ratios within each round
    least: float
    most: float


def compare(ours, theirs):
    """Ratios are taken within a round, so that a slow minute slows both of its sides."""
    if not ours or len(ours) != len(theirs):
        raise ValueError("as many values of one as of the other, and one at least")
    ratios = [a / b for a, b in zip(ours, theirs)]
    return Comparison(
        statistics.median(ours),
        statistics.median(theirs),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
    )


def median_limits(limits):
    """One set of limits from those of all rounds."""
    middle = dict(limits[0])
    for key in ("read_bytes_per_second", "int8_macs_per_second"):
        middle[key] = statistics.median([each[key] for each in limits])
    return middle
