"""The llama family in plain numpy and float64, from a GGUF file: what the library is checked by.

Written from the model's definition, for reading rather than speed:
    x      = embedding[token]
    a layer: x += Wo attention(rope(Wq n), rope(Wk n), Wv n)   with n = rms_norm(x) * attn_norm
             x += Wdown (silu(Wgate n) * (Wup n))              with n = rms_norm(x) * ffn_norm
    logits = head (rms_norm(x) * output_norm)                  head: output, or the embedding
Weights are what the file's blocks stand for, dequantised by PyPI `gguf`.
"""

import math

import numpy as np
from gguf import GGUFReader, dequantize


class Sequence:
    """Rotated keys and values of the tokens so far: a list by layer of [tokens, kv_heads, dim]."""

    def __init__(self, model):
        empty = np.zeros((0, model.kv_heads, model.head_dim), model.dtype)
        self.keys = [empty] * model.layers
        self.values = [empty] * model.layers
        self.length = 0


class Llama:
    def __init__(self, path, dtype=np.float64):
        reader = GGUFReader(path)
        self.dtype = dtype
        self.fields = {name: field for name, field in reader.fields.items()}
        self.architecture = self.fields["general.architecture"].contents()
        if self.architecture != "llama":
            raise ValueError(f"{path}: architecture {self.architecture}, this oracle knows llama")
        self.weights = {t.name: np.asarray(dequantize(t.data, t.tensor_type), dtype)
                        for t in reader.tensors}
        self.layers = self.number("block_count")
        self.heads = self.number("attention.head_count")
        self.kv_heads = self.number("attention.head_count_kv", self.heads)
        width = self.number("embedding_length")
        self.head_dim = self.number("attention.key_length", width // self.heads)
        self.epsilon = self.number("attention.layer_norm_rms_epsilon", 1e-5)
        self.vocabulary = len(self.weights["token_embd.weight"])
        self.rope_dims = self.number("rope.dimension_count", self.head_dim)
        self.frequencies, self.magnitude = self.rope()

    def number(self, key, absent=None):
        field = self.fields.get("llama." + key)
        if field is None and absent is None:
            raise ValueError(f"key llama.{key} is missing")
        return absent if field is None else field.contents()

    def rope(self):
        """Radians a position for each pair of a head's elements, and the factor of q and k."""
        d = self.rope_dims
        base = float(self.number("rope.freq_base", 10000.0))
        frequencies = np.array([base ** (-2 * i / d) for i in range(d // 2)])
        if "rope_freqs.weight" in self.weights:  # Llama 3
            frequencies /= self.weights["rope_freqs.weight"].astype(np.float64)
        kind = self.number("rope.scaling.type", "none")
        factor = float(self.number("rope.scaling.factor", 1.0))
        if kind == "none":
            return frequencies, 1.0
        if kind == "linear":  # position p stands where p / factor stood
            return frequencies / factor, 1.0
        if kind != "yarn":
            raise ValueError(f"rope scaling {kind} is not known to this oracle")
        # YaRN (arXiv 2309.00071, 3.2 and 3.3): pairs that turn more than beta_fast times over the
        # original context stay, those that turn less than beta_slow times are interpolated, the
        # ones between are blended; pair indices rounded outwards, as everywhere in practice.
        context = self.number("rope.scaling.original_context_length",
                              self.number("context_length"))

        def pair_with(turns):  # index i with context * base^(-2i/d) = 2 pi turns
            return d / 2 * math.log(context / (2 * math.pi * turns)) / math.log(base)

        first = max(math.floor(pair_with(self.number("rope.scaling.yarn_beta_fast", 32.0))), 0)
        last = min(math.ceil(pair_with(self.number("rope.scaling.yarn_beta_slow", 1.0))), d - 1)
        interpolated = np.clip((np.arange(d // 2) - first) / max(last - first, 0.001), 0, 1)
        frequencies *= interpolated / factor + (1 - interpolated)
        attention = self.number("rope.scaling.attn_factor", 1.0)
        return frequencies, attention * (0.1 * math.log(factor) + 1)

    def rotate(self, x, positions):
        """x [tokens, heads, dim]; pairs (2i, 2i+1) of the first rope_dims elements turn."""
        angles = positions[:, None] * self.frequencies
        cos = (np.cos(angles) * self.magnitude)[:, None].astype(self.dtype)
        sin = (np.sin(angles) * self.magnitude)[:, None].astype(self.dtype)
        even, odd = x[..., 0:self.rope_dims:2], x[..., 1:self.rope_dims:2]
        out = x.copy()
        out[..., 0:self.rope_dims:2] = even * cos - odd * sin
        out[..., 1:self.rope_dims:2] = even * sin + odd * cos
        return out

    def norm(self, x, name):
        scale = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.dtype(self.epsilon))
        return x / scale * self.weights[name]

    def linear(self, x, name):
        return x @ self.weights[name].T

    def attend(self, q, k, v, first):
        """Query i stands at position first + i and sees the keys up to there."""
        visible = np.arange(len(k))[None, :] <= first + np.arange(len(q))[:, None]
        out = np.empty_like(q)
        for h in range(self.heads):
            shared = h // (self.heads // self.kv_heads)
            scores = q[:, h] @ k[:, shared].T / self.dtype(math.sqrt(self.head_dim))
            scores = np.where(visible, scores, -np.inf)
            p = np.exp(scores - scores.max(axis=-1, keepdims=True))
            out[:, h] = (p / p.sum(axis=-1, keepdims=True)) @ v[:, shared]
        return out

    def run(self, batch):
        """batch: [(sequence, new tokens)]; extends the sequences. The residual stream of the new
        tokens, all sequences' one after the other."""
        sizes = [len(tokens) for _, tokens in batch]
        ends = np.cumsum(sizes)
        rows = [slice(end - size, end) for end, size in zip(ends, sizes)]
        positions = np.concatenate([s.length + np.arange(len(t)) for s, t in batch])
        x = self.weights["token_embd.weight"][np.concatenate([t for _, t in batch])]
        for layer in range(self.layers):
            name = f"blk.{layer}." + "{}.weight"
            n = self.norm(x, name.format("attn_norm"))
            q, k, v = (self.linear(n, name.format("attn_" + part))
                       .reshape(len(x), -1, self.head_dim) for part in "qkv")
            q, k = self.rotate(q, positions), self.rotate(k, positions)
            attention = np.empty_like(q)
            for (sequence, _), own in zip(batch, rows):
                keys = np.concatenate([sequence.keys[layer], k[own]])
                values = np.concatenate([sequence.values[layer], v[own]])
                sequence.keys[layer], sequence.values[layer] = keys, values
                attention[own] = self.attend(q[own], keys, values, sequence.length)
            x = x + self.linear(attention.reshape(len(x), -1), name.format("attn_output"))
            n = self.norm(x, name.format("ffn_norm"))
            gate = self.linear(n, name.format("ffn_gate"))
            gate = gate / (1 + np.exp(-gate))
            x = x + self.linear(gate * self.linear(n, name.format("ffn_up")),
                                name.format("ffn_down"))
        for (sequence, tokens) in batch:
            sequence.length += len(tokens)
        return x

    def logits(self, x):
        head = "output.weight" if "output.weight" in self.weights else "token_embd.weight"
        return self.linear(self.norm(x, "output_norm.weight"), head)

    def logits_of(self, tokens):
        """All logits of all positions of one text."""
        return self.logits(self.run([(Sequence(self), np.asarray(tokens))]))

    def greedy(self, prompts, steps):
        """Continues each prompt by the likeliest token; ties to the lower id. Returns the tokens
        and the top-two gaps, both [prompts, steps]."""
        sequences = [Sequence(self) for _ in prompts]
        last = [self.run([(s, np.asarray(p))])[-1] for s, p in zip(sequences, prompts)]
        tokens, gaps = [], []
        for _ in range(steps):
            logits = self.logits(np.stack(last))
            top = np.sort(logits, axis=-1)[:, -2:]
            tokens.append(np.argmax(logits, axis=-1))
            gaps.append(top[:, 1] - top[:, 0])
            last = self.run([(s, tokens[-1][i:i + 1]) for i, s in enumerate(sequences)])
        return np.stack(tokens, 1), np.stack(gaps, 1)
