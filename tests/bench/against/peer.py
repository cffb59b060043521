#!/usr/bin/env python3
"""llama.cpp measured as llama-bench measures it, with the options and rows of tessera-bench.

Uses the low-level functions of llama-cpp-python: no sampling, no text. The first row, "about", says
what was built and which settings the library reports.
"""
import argparse
import ctypes
import json
import random
import re
import statistics
import sys
import time

BATCH = 2048  # llama-bench's defaults: tokens handed over at once, and computed at once
UBATCH = 512
GGML_TYPES = {"f16": 1, "q8_0": 8}

log_text = []


class Peer:
    """One model and one context, deep enough for the longest test."""

    def __init__(self, lib, options, positions):
        self.lib = lib
        model_params = lib.llama_model_default_params()
        model_params.n_gpu_layers = 0
        if not model_params.use_extra_bufts:
            sys.exit("peer: weights would not be repacked")
        self.model = lib.llama_model_load_from_file(options.model.encode(), model_params)
        if not self.model:
            sys.exit("peer: the model cannot be loaded\n" + "".join(log_text[-20:]))
        params = lib.llama_context_default_params()
        params.n_ctx = (positions + 255) // 256 * 256
        params.n_batch = min(BATCH, params.n_ctx)
        params.n_ubatch = UBATCH
        params.n_threads = params.n_threads_batch = options.threads
        params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
        params.type_k = params.type_v = GGML_TYPES[options.kv_type]
        self.batch = params.n_batch
        self.context = lib.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit("peer: no context\n" + "".join(log_text[-20:]))
        self.memory = lib.llama_get_memory(self.context)
        self.vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        self.random = random.Random(1)
        self.filled = 0  # tokens of the depth that are in the cache

    def tokens(self, count):
        return [self.random.randrange(self.vocabulary) for _ in range(count)]

    def decode(self, tokens):
        """Appends tokens to the cache; logits of the last one."""
        for start in range(0, len(tokens), self.batch):
            piece = tokens[start : start + self.batch]
            array = (self.lib.llama_token * len(piece))(*piece)
            status = self.lib.llama_decode(
                self.context, self.lib.llama_batch_get_one(array, len(piece))
            )
            if status != 0:
                sys.exit(f"peer: llama_decode says {status}")
        self.lib.llama_synchronize(self.context)

    def return_to(self, depth):
        """Leaves exactly `depth` tokens in the cache; what is there already is kept."""
        keep = min(self.filled, depth)
        self.lib.llama_memory_seq_rm(self.memory, -1, keep, -1)
        self.decode(self.tokens(depth - keep))
        self.filled = depth

    def prompt(self, count):
        tokens = self.tokens(count)
        start = time.perf_counter()
        self.decode(tokens)
        return count / (time.perf_counter() - start)

    def generate(self, count):
        # One array, written before each step: as little Python as possible in what is timed.
        tokens = self.tokens(count)
        array = (self.lib.llama_token * 1)()
        batch = self.lib.llama_batch_get_one(array, 1)
        decode, synchronize = self.lib.llama_decode, self.lib.llama_synchronize
        start = time.perf_counter()
        for token in tokens:
            array[0] = token
            if decode(self.context, batch) != 0:
                sys.exit("peer: llama_decode failed")
            synchronize(self.context)
        return count / (time.perf_counter() - start)

    def measure(self, test, count, depth, repetitions):
        """A warm-up, then the runs; tokens a second of each."""
        speeds = []
        for _ in range(1 + repetitions):
            self.return_to(depth)
            speeds.append(test(self, count))
        return speeds[1:]


def keep_log(lib):
    """Starts the library with a log that goes to log_text. The callback, to be kept."""

    @lib.llama_log_callback
    def keep(_level, text, _data):
        log_text.append(text.decode(errors="replace"))

    lib.llama_log_set(keep, ctypes.c_void_p(0))
    lib.llama_backend_init()
    return keep


def version(lib):
    """Of the package, and of what it contains where the libraries tell it."""
    import llama_cpp

    found = [f"llama-cpp-python {llama_cpp.__version__}"]
    for function, name in (("llama_version", "llama.cpp"), ("ggml_commit", "commit")):
        try:
            call = getattr(lib._lib, function)
        except AttributeError:
            continue
        call.restype = ctypes.c_char_p
        found.append(f"{name} {call().decode()}")
    return ", ".join(found)


def about(lib):
    """Settings as the library's own log and functions tell them."""
    text = "".join(log_text)
    flash = re.findall(r"flash_attn\s*=\s*(\w+)", text)
    buffers = re.findall(r"(\S+) model buffer size =\s*([\d.]+) MiB", text)
    info = lib.llama_print_system_info().decode()
    return {
        "version": version(lib),
        "instruction_sets": re.findall(r"(\w+) = 1", info),
        "flash_attention": flash[-1] if flash else "not reported",
        "weight_buffers_mib": {name: float(size) for name, size in buffers},
    }


def numbers(text):
    return [int(part) for part in text.split(",")]


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--pp", type=numbers, default=[512])
    parser.add_argument("--tg", type=numbers, default=[128])
    parser.add_argument("--depth", type=numbers, default=[0])
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--kv-type", choices=sorted(GGML_TYPES), default="f16")
    parser.add_argument("--json", action="store_true", help="as always; for symmetry")
    return parser.parse_args(arguments)


def main():
    options = parse(sys.argv[1:])
    import llama_cpp.llama_cpp as lib

    log = keep_log(lib)  # noqa: F841, as long as the library may call it
    peer = Peer(lib, options, max(options.depth) + max(options.pp + options.tg))
    print(json.dumps({"about": about(lib)}), flush=True)
    for depth in options.depth:
        tests = [("pp", Peer.prompt, count) for count in options.pp if count]
        tests += [("tg", Peer.generate, count) for count in options.tg if count]
        for kind, test, count in tests:
            speeds = peer.measure(test, count, depth, options.repetitions)
            name = f"{kind}{count}" + (f"@d{depth}" if depth else "")
            row = {"test": name, "threads": options.threads}
            row |= {"tokens_per_second": statistics.median(speeds)}
            print(json.dumps(row | {"min": min(speeds), "max": max(speeds)}), flush=True)


if __name__ == "__main__":
    main()
