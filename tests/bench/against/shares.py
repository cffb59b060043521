"""How much of what the machine can do at most a speed is."""
import re

KV_BYTES = {"f16": 2, "q8_0": 34 / 32}


def parts(test):
    """("tg", 128, 4096) of "tg128@d4096"."""
    kind, tokens, depth = re.fullmatch(r"(pp|tg)(\d+)(?:@d(\d+))?", test).groups()
    return kind, int(tokens), int(depth or 0)


def bytes_a_token(test, costs, kv_type):
    """Weights, and the KV of a context that is half way through the test."""
    _, tokens, depth = parts(test)
    return costs["weight_bytes"] + costs["kv_values"] * KV_BYTES[kv_type] * (depth + tokens / 2)


def share(test, speed, costs, limits, kv_type):
    """Generating: of the read bandwidth. Prompts: the layers' matrices, of the int8 rate; None
    where the machine has no int8 instruction that is measured."""
    if parts(test)[0] == "tg":
        return speed * bytes_a_token(test, costs, kv_type) / limits["read_bytes_per_second"]
    if not limits["int8_macs_per_second"]:
        return None
    return speed * costs["linear_macs"] / limits["int8_macs_per_second"]
