"""Outcomes that tessera-quality --raw wrote, pooled over files."""
import json
from dataclasses import dataclass, field

SETTINGS = ("model", "chunks", "chunk_tokens", "kv_type", "reference_kv", "math", "primer_tokens",
            "head_tokens", "select_share", "seed")
METHODS = ("full", "prefix", "reuse", "epic", "cacheblend", "mepic", "none", "head", "select",
           "default")
QUESTIONS = ("fact", "summary", "two_hop", "override", "order", "twice")
POOLED = "fact+summary"


class Bad(Exception):
    """What was read is not what it should be; the message says where."""


@dataclass
class Run:
    """All outcomes of one setting."""

    settings: dict
    outcomes: dict = field(default_factory=dict)  # (method, question) -> prompt -> outcome
    processors: set = field(default_factory=set)

    @property
    def name(self):
        s = self.settings
        parts = [f"{s['chunks']} x {s['chunk_tokens']}", f"KV {s['kv_type']}"]
        return ", ".join(parts + ([] if s["math"] == "fast" else [f"{s['math']} math"]))

    def of(self, method, question):
        """Prompt -> outcomes: one, or of POOLED those of both questions where both were asked."""
        if question != POOLED:
            found = self.outcomes.get((method, question), {})
            return {prompt: [outcome] for prompt, outcome in sorted(found.items())}
        fact, summary = (self.of(method, name) for name in POOLED.split("+"))
        return {prompt: fact[prompt] + summary[prompt] for prompt in fact if prompt in summary}


def read(paths):
    """Runs by their settings, in the order in which they come."""
    runs = {}
    for path in paths:
        with open(path) as lines:
            for number, line in enumerate(lines, 1):
                try:
                    outcome = json.loads(line)
                    settings = {name: outcome[name] for name in SETTINGS}
                    where = outcome["method"], outcome["question"]
                    prompt = outcome["prompt"]
                    outcome["kl"][0]
                except (json.JSONDecodeError, KeyError, IndexError, TypeError) as error:
                    where = f"{path}:{number}"
                    raise Bad(f"{where}: not an outcome of tessera-quality --raw") from error
                run = runs.setdefault(tuple(settings.values()), Run(settings))
                known = run.outcomes.setdefault(where, {})
                if prompt in known and known[prompt]["kl"] != outcome["kl"]:
                    raise Bad(f"{path}:{number}: another outcome of prompt {prompt} of {where} was "
                              "read before")
                known[prompt] = outcome
                run.processors.add(outcome["processor"])
    return list(runs.values())
