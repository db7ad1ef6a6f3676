"""Turns SmolLM2, as a package has it in four bits in one GGUF file, into an ordinary folder of a language model.

GGUF is a list of named values, then a list of tensors, then their data: 32-bit or 16-bit floats, or blocks of 32 weights in
four or eight bits with a scale, and an offset where the type has one. Weights are written as 16-bit floats, which are far
finer than the four bits they were. Queries and keys are stored in the order that llama.cpp rotates them in, and are put back.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BLOCK = 32
_NUMBERS = MappingProxyType({0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"})
"""The types of values that are one number, as `struct` writes them."""
_TEXT, _LIST = 8, 9
_NAMES = MappingProxyType(
    {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
)
"""The parts of a layer under the names that transformers' `LlamaForCausalLM` has for them."""


def language_model(unpacked: Path, folder: Path) -> None:
    """A `LlamaForCausalLM` with its tokenizer and chat template."""
    from safetensors.numpy import save_file

    packed = Gguf.read((unpacked / "model.gguf").read_bytes())
    save_file(dict(_tensors(packed)), folder / "model.safetensors", metadata={"format": "pt"})
    config = _configuration(packed.values)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    _write_tokenizer(packed.values, folder)
    (unpacked / "LICENSE").rename(folder / "LICENSE")


def _configuration(values: Mapping[str, Any]) -> dict[str, Any]:
    heads = values["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(values["tokenizer.ggml.tokens"]),
        "hidden_size": values["llama.embedding_length"],
        "num_hidden_layers": values["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": values.get("llama.attention.head_count_kv", heads),
        "intermediate_size": values["llama.feed_forward_length"],
        "max_position_embeddings": values["llama.context_length"],
        "rms_norm_eps": round(values["llama.attention.layer_norm_rms_epsilon"], 9),
        "rope_theta": values["llama.rope.freq_base"],
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "bos_token_id": values["tokenizer.ggml.bos_token_id"],
        "eos_token_id": values["tokenizer.ggml.eos_token_id"],
        "pad_token_id": values["tokenizer.ggml.padding_token_id"],
        "dtype": "float16",
    }


def _tensors(packed: Gguf) -> dict[str, NDArray[np.float16]]:
    import numpy as np

    heads = packed.values["llama.attention.head_count"]
    shared = packed.values.get("llama.attention.head_count_kv", heads)
    rotated = {"attn_q": heads, "attn_k": shared}
    found = {}
    for name in packed.directory:
        weight, (first, *rest) = packed.tensor(name), name.removesuffix(".weight").split(".")
        if first == "blk":
            number, part = rest
            weight = _unrotated(weight, rotated[part]) if part in rotated else weight
            own = f"model.layers.{number}.{_NAMES[part]}.weight"
        else:
            own = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[first]
        found[own] = np.ascontiguousarray(weight.astype(np.float16))
    return found


def _unrotated(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """The rows of each head in halves, which llama.cpp has in pairs."""
    rows, width = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)


def _write_tokenizer(values: Mapping[str, Any], folder: Path) -> None:
    """Bytes as characters, each digit a token, and the merges of the file."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokens, kinds = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in values["tokenizer.ggml.merges"]]
    made: Any = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    control = 3
    made.add_special_tokens([token for token, kind in zip(tokens, kinds, strict=True) if kind == control])
    made.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    config = {key: tokens[values[f"tokenizer.ggml.{name}_token_id"]] for key, name in names.items()}
    config |= {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": values["llama.context_length"],
        "model_input_names": ["input_ids", "attention_mask"],
        "chat_template": values["tokenizer.chat_template"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Gguf:
    """A GGUF file, version 2 or 3."""

    data: bytes
    values: Mapping[str, Any]
    directory: Mapping[str, tuple[tuple[int, ...], int, int]]
    """For each tensor its shape, rows first, its type, and where it starts."""

    @classmethod
    def read(cls, data: bytes) -> Gguf:
        """Raises ValueError where it is another format."""
        magic, version, tensors, values = struct.unpack_from("<4sIQQ", data)
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError("not version 2 or 3 of GGUF")
        cursor = _Cursor(data, struct.calcsize("<4sIQQ"))
        known = {cursor.text(): cursor.value(cursor.number("I")) for _ in range(values)}
        listed = {}
        for _ in range(tensors):
            name, axes = cursor.text(), cursor.number("I")
            shape = tuple(cursor.number("Q") for _ in range(axes))[::-1]
            listed[name] = (shape, cursor.number("I"), cursor.number("Q"))
        step = known.get("general.alignment", 32)
        start = -(-cursor.at // step) * step
        return cls(data, known, {name: (shape, kind, start + at) for name, (shape, kind, at) in listed.items()})

    def tensor(self, name: str) -> NDArray[np.float32]:
        """One tensor in 32-bit floats."""
        shape, kind, start = self.directory[name]
        return _READERS[kind](self.data, start, prod(shape)).reshape(shape)


@dataclass
class _Cursor:
    """Reads values one after another."""

    data: bytes
    at: int

    def number(self, form: str) -> Any:
        (found,) = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return found

    def text(self) -> str:
        size = self.number("Q")
        self.at += size
        return self.data[self.at - size : self.at].decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self.text()
        if kind == _LIST:
            inner, size = self.number("I"), self.number("Q")
            return [self.value(inner) for _ in range(size)]
        return self.number(_NUMBERS[kind])


def _floats(form: str) -> Callable[[bytes, int, int], NDArray[np.float32]]:
    def read(data: bytes, start: int, weights: int) -> NDArray[np.float32]:
        import numpy as np

        return np.frombuffer(data, form, weights, start).astype(np.float32)

    return read


def _four_bits(data: bytes, start: int, weights: int) -> NDArray[np.float32]:
    """`Q4_1`: a scale, an offset, then the low halves of 16 bytes and their high halves."""
    import numpy as np

    block = np.dtype([("scale", "<f2"), ("offset", "<f2"), ("nibbles", "u1", _BLOCK // 2)])
    blocks = np.frombuffer(data, block, weights // _BLOCK, start)
    halves = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=1).astype(np.float32)
    scale, offset = (blocks[name].astype(np.float32)[:, None] for name in ("scale", "offset"))
    whole: NDArray[np.float32] = (halves * scale + offset).reshape(-1)
    return whole


def _eight_bits(data: bytes, start: int, weights: int) -> NDArray[np.float32]:
    """`Q8_0`: a scale, then 32 numbers."""
    import numpy as np

    block = np.dtype([("scale", "<f2"), ("numbers", "i1", _BLOCK)])
    blocks = np.frombuffer(data, block, weights // _BLOCK, start)
    whole: NDArray[np.float32] = blocks["numbers"].astype(np.float32) * blocks["scale"].astype(np.float32)[:, None]
    return whole.reshape(-1)


_READERS: Mapping[int, Callable[[bytes, int, int], NDArray[np.float32]]] = MappingProxyType(
    {0: _floats("<f4"), 1: _floats("<f2"), 3: _four_bits, 8: _eight_bits}
)
"""By the number of the type."""
