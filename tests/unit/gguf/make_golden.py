#!/usr/bin/env python3
"""Writes the golden files of gguf_test with another implementation: PyPI gguf (0.19.0 was used).

peer.gguf        a file from gguf's writer with every value type it can write, and three tensors
dequantised.bin  for each element type in the order of backends/dtype.hpp: the blocks of 512 values
                 with random levels, then the 512 values as fp32 that gguf.quants.dequantize gives
"""
import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGUFValueType as V

FOLDER = pathlib.Path(__file__).parent
VALUES = 512


def peer_file():
    w = gguf.GGUFWriter(FOLDER / "peer.gguf", "llama")
    w.add_uint8("v.u8", 255)
    w.add_int8("v.i8", -128)
    w.add_uint16("v.u16", 65535)
    w.add_int16("v.i16", -32768)
    w.add_uint32("v.u32", 2**32 - 1)
    w.add_int32("v.i32", -(2**31))
    w.add_float32("v.f32", 0.1)
    w.add_bool("v.bool", True)
    w.add_string("v.string", "grüße, 世界")
    w.add_uint64("v.u64", 2**64 - 1)
    w.add_int64("v.i64", -(2**63))
    w.add_float64("v.f64", 0.1)
    w.add_key_value("v.ints", [-1, 0, 1], V.ARRAY, V.INT32)
    w.add_key_value("v.floats", [0.5, -2.0], V.ARRAY, V.FLOAT32)
    w.add_key_value("v.strings", ["Ġthe", "", "é"], V.ARRAY, V.STRING)
    w.add_key_value("v.bools", [True, False], V.ARRAY, V.BOOL)
    w.add_tensor("f32", np.arange(12, dtype=np.float32).reshape(3, 4))
    w.add_tensor("f16", np.arange(5, dtype=np.float16))
    ramp = np.arange(64, dtype=np.float32).reshape(2, 32)
    w.add_tensor("q8_0", gguf.quants.quantize(ramp, T.Q8_0), raw_dtype=T.Q8_0)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def blocks(rng, dtype):
    """Random blocks whose half-precision fields are ordinary numbers."""
    size, bytes_ = gguf.GGML_QUANT_SIZES[dtype]
    if dtype == T.F32:
        return rng.normal(size=VALUES).astype(np.float32).view(np.uint8).reshape(-1, 4)
    halves = {T.F16: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
              T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}
    out = rng.integers(0, 256, size=(VALUES // size, bytes_), dtype=np.uint8)
    if dtype == T.BF16:
        out[:, 1] = (out[:, 1] & 0x80) | 0x3F
    for at in halves.get(dtype, []):
        scale = rng.normal(size=(VALUES // size, 1)).astype(np.float16)
        out[:, at:at + 2] = scale.view(np.uint8)
    return out


def dequantised_file():
    rng = np.random.default_rng(7)
    with open(FOLDER / "dequantised.bin", "wb") as f:
        for t in [T.F32, T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q4_K, T.Q5_K,
                  T.Q6_K]:
            raw = blocks(rng, t)
            view = raw.view({T.F32: np.float32, T.F16: np.float16}.get(t, np.uint8))
            values = gguf.quants.dequantize(view, t).astype(np.float32).reshape(-1)
            assert values.size == VALUES and np.isfinite(values).all()
            f.write(raw.tobytes())
            f.write(values.tobytes())


peer_file()
dequantised_file()
