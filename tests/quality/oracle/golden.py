"""Golden files: named arrays of int32 or float32, little endian, read by tests/quality/golden.cpp.

    8 bytes "TSRGOLD1", uint32 arrays, then for each array: uint32 length of the name, the name,
    uint32 type (0: int32, 1: float32), uint32 rank, uint32 sizes[rank], the data.
"""

import struct

import numpy as np

MAGIC = b"TSRGOLD1"
TYPES = [np.dtype("<i4"), np.dtype("<f4")]


def write(path, arrays):
    with open(path, "wb") as out:
        out.write(MAGIC + struct.pack("<I", len(arrays)))
        for name, array in arrays.items():
            array = np.asarray(array)
            kind = 0 if np.issubdtype(array.dtype, np.integer) else 1
            encoded = name.encode()
            out.write(struct.pack("<I", len(encoded)) + encoded)
            out.write(struct.pack(f"<II{array.ndim}I", kind, array.ndim, *array.shape))
            out.write(np.ascontiguousarray(array, TYPES[kind]).tobytes())


def read(path):
    with open(path, "rb") as source:
        data = source.read()
    if data[:8] != MAGIC:
        raise ValueError(f"{path} is no golden file")
    at = 8

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values

    arrays = {}
    for _ in range(take("I")[0]):
        name = take(f"{take('I')[0]}s")[0].decode()
        kind, rank = take("II")
        shape = take(f"{rank}I")
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(data, TYPES[kind], count, at).reshape(shape)
        at += 4 * count
    return arrays
