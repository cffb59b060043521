#!/usr/bin/env python3
"""Writes TYPE.blocks (random valid blocks) and TYPE.f32 (their values by PyPI gguf) beside itself.

    pip install gguf==0.19.0 numpy && python3 generate.py
"""

import pathlib

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize

BLOCKS = 4
# Type: (elements a block, bytes a block, offsets of half-precision numbers in a block)
TYPES = {
    "F32": (1, 4, []),
    "F16": (1, 2, [0]),
    "BF16": (1, 2, []),
    "Q4_0": (32, 18, [0]),
    "Q4_1": (32, 20, [0, 2]),
    "Q5_0": (32, 22, [0]),
    "Q5_1": (32, 24, [0, 2]),
    "Q8_0": (32, 34, [0]),
    "Q4_K": (256, 144, [0, 2]),
    "Q5_K": (256, 176, [0, 2]),
    "Q6_K": (256, 210, [208]),
}


def main():
    folder = pathlib.Path(__file__).parent
    random = np.random.default_rng(1)
    for name, (elements, size, halves) in TYPES.items():
        count = BLOCKS if elements > 1 else 64
        if name in ("F32", "BF16"):
            values = random.standard_normal(count).astype(np.float32)
            blocks = values.view(np.uint8).reshape(count, 4)
            blocks = blocks if name == "F32" else blocks[:, 2:].copy()
        else:
            blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
            for offset in halves:
                scales = (random.standard_normal(count) * 0.1).astype(np.float16)
                blocks[:, offset : offset + 2] = scales.view(np.uint8).reshape(count, 2)
        values = dequantize(blocks, Type[name]).astype("<f4").reshape(-1)
        assert values.size == count * elements and np.isfinite(values).all()
        (folder / f"{name}.blocks").write_bytes(blocks.tobytes())
        (folder / f"{name}.f32").write_bytes(values.tobytes())


if __name__ == "__main__":
    main()
