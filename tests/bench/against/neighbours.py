"""How much of the processor other programs use while ours run: with much of it, figures mean
little, and least of all those of a program whose threads wait for each other by spinning."""
import os
import pathlib


def busy_seconds():
    """Of all processors together since the start of the machine; None where it is not told."""
    try:
        first = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()
        user, nice, system, _idle, _wait, irq, soft, steal = (int(n) for n in first[1:9])
    except (OSError, ValueError, IndexError):
        return None
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds():
    """Of this program and the programs that it ran."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class Neighbours:
    def __init__(self):
        self.start = (os.times().elapsed, busy_seconds(), own_seconds())

    def processors(self):
        """Used by others since the start, on average; None where it is not known."""
        elapsed, busy, own = os.times().elapsed, busy_seconds(), own_seconds()
        if busy is None or self.start[1] is None or elapsed <= self.start[0]:
            return None
        others = busy - self.start[1] - (own - self.start[2])
        return max(0.0, others / (elapsed - self.start[0]))
