#!/usr/bin/env python3
"""peer_logits.py --model MODEL --threads N TOKENS LOGITS: llama.cpp's logits of every position.

Reads int32 ids from the file TOKENS, writes float32 [positions][vocabulary] to the file LOGITS, as
logits_dump does of ours. F16 KV, flash attention and repacked weights, as in peer.py.
"""
import argparse
import array
import ctypes
import json
import pathlib
import sys

from peer import UBATCH, Peer, about, keep_log


def logits(peer, ids, out):
    """Writes the rows of one text, which begins at position 0."""
    lib = peer.lib
    peer.return_to(0)
    batch = lib.llama_batch_init(UBATCH, 0, 1)
    for start in range(0, len(ids), UBATCH):
        piece = ids[start : start + UBATCH]
        batch.n_tokens = len(piece)
        for i, token in enumerate(piece):
            batch.token[i] = token
            batch.pos[i] = start + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = 1
        status = lib.llama_decode(peer.context, batch)
        if status != 0:
            sys.exit(f"peer: llama_decode says {status}")
        rows = lib.llama_get_logits(peer.context)
        out.write(ctypes.string_at(rows, len(piece) * peer.vocabulary * 4))
    lib.llama_batch_free(batch)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("tokens", type=pathlib.Path)
    parser.add_argument("logits", type=pathlib.Path)
    options = parser.parse_args()
    options.kv_type = "f16"
    import llama_cpp.llama_cpp as lib

    log = keep_log(lib)  # noqa: F841, as long as the library may call it
    ids = array.array("i", options.tokens.read_bytes()).tolist()
    peer = Peer(lib, options, len(ids))
    if not ids or min(ids) < 0 or max(ids) >= peer.vocabulary:
        sys.exit(f"peer: {options.tokens} holds no ids of this model")
    with open(options.logits, "wb") as out:
        logits(peer, ids, out)
    print(json.dumps({"about": about(lib)}))


if __name__ == "__main__":
    main()
