"""Means over prompts and their 95 % intervals: bootstrap, the same for the same data."""
import random
import statistics
from dataclasses import dataclass

DRAWS = 2000


@dataclass(frozen=True)
class Estimate:
    value: float
    low: float
    high: float


def percentile(values, share):
    """The value that this share of them does not exceed; `values` is not empty."""
    return sorted(values)[round(share * (len(values) - 1))]


def estimate(count, statistic):
    """Of a statistic of prompts, given by their indices below `count`."""
    drawn = random.Random(1)
    indices = range(count)
    values = sorted(statistic(drawn.choices(indices, k=count)) for _ in range(DRAWS))
    return Estimate(statistic(indices), percentile(values, 0.025), percentile(values, 0.975))


def mean(values):
    return estimate(len(values), lambda drawn: sum(values[i] for i in drawn) / len(values))


def ratio(over, under):
    """Of two means over the same prompts."""

    def statistic(drawn):
        below = sum(under[i] for i in drawn)
        return sum(over[i] for i in drawn) / below if below else float("nan")

    return estimate(len(over), statistic)


def difference(left, right):
    """Of two means over the same prompts."""
    return mean([a - b for a, b in zip(left, right)])


def each(by_prompt, number):
    """The mean of `number` over the outcomes of each prompt; prompts without one are left out."""
    values = []
    for outcomes in by_prompt.values():
        known = [number(outcome) for outcome in outcomes]
        known = [value for value in known if value is not None]
        if known:
            values.append(statistics.fmean(known))
    return values


def kl(outcome):
    return statistics.fmean(outcome["kl"])


def first_kl(outcome):
    return outcome["kl"][0]
