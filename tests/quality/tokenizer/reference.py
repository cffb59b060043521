"""The Hugging Face tokenizer that a GGUF file describes, for comparison with ours.

Needs PyPI `gguf` and `tokenizers`. The pre-tokenizers are those of the tokenizer.json files of
SmolLM2, GPT-2, Llama 3 and Qwen2.5; Qwen2.5's NFC normalizer is left out (docs/text.md).
"""

import re

from gguf import GGUFReader
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3 = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
PRE_TOKENIZERS = ["smollm", "gpt-2", "llama-bpe", "qwen2"]
CONTROL = 3  # tokenizer.ggml.token_type


def byte_alphabet():
    """Character of each byte in GPT-2 style vocabularies."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {byte: chr(byte) for byte in printable}
    alphabet.update({byte: chr(0x100 + i) for i, byte in enumerate(others)})
    return alphabet


ALPHABET = byte_alphabet()


class Vocabulary:
    """What the file says; `complete` appends a token for every byte that has none."""

    def __init__(self, path, complete=False):
        fields = GGUFReader(path).fields
        self.tokens = list(fields["tokenizer.ggml.tokens"].contents())
        self.kinds = list(fields["tokenizer.ggml.token_type"].contents())
        self.merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
        known = set(self.tokens)
        self.missing = bytes(b for b in range(256) if ALPHABET[b] not in known)
        if complete:
            self.tokens += [ALPHABET[b] for b in self.missing]
            self.kinds += [1] * len(self.missing)
            self.missing = b""
        self.control = [t for t, kind in zip(self.tokens, self.kinds) if kind == CONTROL]

    def encodable(self, data):
        """`data` without the bytes that no token can express."""
        return data.translate(None, self.missing) if self.missing else data


def pre_tokenizer(pre):
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if pre == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pre == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    pattern = {"llama-bpe": LLAMA3, "qwen2": QWEN2}[pre]
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), byte_level])


def build(vocabulary, pre, special):
    """`special`: control tokens are recognised in text."""
    vocab = {token: i for i, token in enumerate(vocabulary.tokens)}
    model = models.BPE(vocab, vocabulary.merges, ignore_merges=pre == "llama-bpe")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer(pre)
    tokenizer.decoder = decoders.ByteLevel()
    if special:
        tokenizer.add_special_tokens(
            [AddedToken(t, special=True, normalized=False) for t in vocabulary.control])
    return tokenizer


def encode_bytes(tokenizer, data):
    """Ids of any bytes: valid runs of UTF-8 each alone, runs of invalid bytes merged as words."""
    ids = []
    text = data.decode("utf-8", "surrogateescape")
    for part in re.findall("[\udc80-\udcff]+|[^\udc80-\udcff]+", text):
        if "\udc80" <= part[0] <= "\udcff":
            word = "".join(ALPHABET[b] for b in part.encode("utf-8", "surrogateescape"))
            ids += [token.id for token in tokenizer.model.tokenize(word)]
        else:
            ids += tokenizer.encode(part, add_special_tokens=False).ids
    return ids
