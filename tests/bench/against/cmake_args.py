#!/usr/bin/env python3
"""CMAKE_ARGS for building llama.cpp: reads the output of machine_limits on standard input.

ggml's own detection believes what the processor lists; here each instruction set is named, on or
off, by what was found to run. AMX is off, as our kernels do not use it either. Processors other
than x86-64 keep ggml's defaults.
"""
import json
import platform
import sys

OPTIONS = {
    "GGML_SSE42": "sse4.2",
    "GGML_AVX": "avx",
    "GGML_AVX2": "avx2",
    "GGML_FMA": "fma",
    "GGML_F16C": "f16c",
    "GGML_BMI2": "bmi2",
    "GGML_AVX_VNNI": "avxvnni",
    "GGML_AVX512": "avx512",
    "GGML_AVX512_VNNI": "avx512vnni",
    "GGML_AVX512_VBMI": "avx512vbmi",
    "GGML_AVX512_BF16": "avx512bf16",
}
OFF = ("GGML_NATIVE", "GGML_AMX_TILE", "GGML_AMX_INT8", "GGML_AMX_BF16")
COMMON = "-DLLAVA_BUILD=OFF"  # pictures: not needed, slow to build


def cmake_args(machine, instruction_sets):
    if machine not in ("x86_64", "AMD64"):
        return COMMON
    usable = set(instruction_sets)
    if "avx512" not in usable:  # the options below it would be compiled without their base
        usable = {name for name in usable if not name.startswith("avx512")}
    values = dict.fromkeys(OFF, "OFF")
    values |= {option: "ON" if name in usable else "OFF" for option, name in OPTIONS.items()}
    return " ".join([COMMON] + [f"-D{option}={value}" for option, value in values.items()])


if __name__ == "__main__":
    print(cmake_args(platform.machine(), json.load(sys.stdin)["instruction_sets"]))
