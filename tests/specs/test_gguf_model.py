"""A language model in one GGUF file becomes an ordinary folder."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

SPECS = Path(__file__).parent.parent.parent / "specs"
CODES = {int: 4, float: 6, str: 8}
LETTERS = ("<|endoftext|>", "a", "b", "Ġ", "ab", "Ġa", "1", "2")


@pytest.fixture(scope="module")
def gguf():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SPECS))
        import gguf_model

        yield gguf_model
        del sys.modules["gguf_model"]


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


def value(given):
    if isinstance(given, list):
        inner = CODES[type(given[0])]
        return struct.pack("<IIQ", 9, inner, len(given)) + b"".join(value(each)[4:] for each in given)
    form = {int: "<I", float: "<f"}.get(type(given))
    return struct.pack("<I", CODES[type(given)]) + (text(given) if form is None else struct.pack(form, given))


def packed(values, tensors):
    """A file of these values, and of tensors as (type, shape, bytes)."""
    head, data = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(values)), b""
    for name, given in values.items():
        head += text(name) + value(given)
    for name, (kind, shape, content) in tensors.items():
        head += (
            text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1]) + struct.pack("<IQ", kind, len(data))
        )
        data += content + bytes(-len(content) % 32)
    return head + bytes(-len(head) % 32) + data


def four_bits(drawn, rows, width):
    """Blocks of `Q4_1` with the weights that they stand for."""
    blocks = rows * width // 32
    scale, offset = (drawn.uniform(0.01, 0.1, blocks).astype("<f2"), drawn.uniform(-0.8, 0, blocks).astype("<f2"))
    numbers = drawn.integers(0, 16, (blocks, 32))
    halves = (numbers[:, :16] | numbers[:, 16:] << 4).astype("u1")
    content = b"".join(s.tobytes() + o.tobytes() + h.tobytes() for s, o, h in zip(scale, offset, halves, strict=True))
    weights = numbers * scale.astype("f4")[:, None] + offset.astype("f4")[:, None]
    return content, weights.astype("f4").reshape(rows, width)


def eight_bits(drawn, rows, width):
    blocks = rows * width // 32
    scale, numbers = (
        drawn.uniform(0.001, 0.01, blocks).astype("<f2"),
        drawn.integers(-127, 128, (blocks, 32)).astype("i1"),
    )
    content = b"".join(s.tobytes() + n.tobytes() for s, n in zip(scale, numbers, strict=True))
    return content, (numbers.astype("f4") * scale.astype("f4")[:, None]).reshape(rows, width)


def paired(weight, heads):
    """The rows of each head in pairs, as llama.cpp's converter writes queries and keys."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


@pytest.fixture
def model(tmp_path):
    """The file of a Llama of one layer, and its weights under the library's names."""
    drawn, width, heads, shared = np.random.default_rng(0), 32, 4, 2
    shapes = {
        "self_attn.q_proj": (32, width), "self_attn.k_proj": (16, width), "self_attn.v_proj": (16, width),
        "self_attn.o_proj": (width, 32), "mlp.gate_proj": (64, width), "mlp.up_proj": (64, width), "mlp.down_proj": (width, 64),
    }  # fmt: skip
    names = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    tensors, weights = {}, {}
    for name, shape in shapes.items():
        if name[10:] in ("q_proj", "k_proj"):
            weight = drawn.standard_normal(shape).astype("f4") * 0.2
            content, kind = paired(weight, heads if name.endswith("q_proj") else shared).tobytes(), 0
        else:
            (content, weight), kind = four_bits(drawn, *shape), 3
        tensors[f"blk.0.{names[name]}.weight"] = (kind, shape, content)
        weights[f"model.layers.0.{name}.weight"] = weight
    content, weight = eight_bits(drawn, len(LETTERS), width)
    tensors["token_embd.weight"], weights["model.embed_tokens.weight"] = (8, (len(LETTERS), width), content), weight
    for name, own in (("output_norm", "model.norm"), ("blk.0.attn_norm", "model.layers.0.input_layernorm"),
                      ("blk.0.ffn_norm", "model.layers.0.post_attention_layernorm")):  # fmt: skip
        weights[f"{own}.weight"] = drawn.uniform(0.5, 1.5, width).astype("f4")
        tensors[f"{name}.weight"] = (0, (width,), weights[f"{own}.weight"].tobytes())
    values = {
        "general.architecture": "llama", "llama.block_count": 1, "llama.context_length": 64, "llama.embedding_length": width,
        "llama.feed_forward_length": 64, "llama.attention.head_count": heads, "llama.attention.head_count_kv": shared,
        "llama.rope.freq_base": 100000.0, "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.tokens": list(LETTERS), "tokenizer.ggml.token_type": [3, *[1] * (len(LETTERS) - 1)],
        "tokenizer.ggml.merges": ["a b", "Ġ a"], "tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.padding_token_id": 0, "tokenizer.ggml.unknown_token_id": 0, "tokenizer.chat_template": "hello",
    }  # fmt: skip
    unpacked, folder = tmp_path / "unpacked", tmp_path / "made"
    unpacked.mkdir()
    folder.mkdir()
    (unpacked / "model.gguf").write_bytes(packed(values, tensors))
    (unpacked / "LICENSE").write_text("free")
    return unpacked, folder, weights


def test_the_folder_loads_with_the_weights_that_the_blocks_stand_for(gguf, model):
    from transformers import AutoModelForCausalLM

    unpacked, folder, weights = model
    gguf.language_model(unpacked, folder)
    made, report = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not any(report.values())
    assert made.config.rope_parameters["rope_theta"] == 100000.0
    state = made.state_dict()
    for name, weight in weights.items():
        np.testing.assert_allclose(state[name].numpy(), weight, rtol=2e-3, atol=1e-6, err_msg=name)
    assert state["lm_head.weight"].equal(state["model.embed_tokens.weight"])


def test_the_tokenizer_has_the_merges_and_each_digit_alone(gguf, model):
    from transformers import AutoTokenizer

    unpacked, folder, _ = model
    gguf.language_model(unpacked, folder)
    made = AutoTokenizer.from_pretrained(folder)
    assert made.convert_ids_to_tokens(made("ab a12<|endoftext|>")["input_ids"]) == [
        "ab",
        "Ġa",
        "1",
        "2",
        "<|endoftext|>",
    ]
    assert made.chat_template == "hello"
    assert (folder / "LICENSE").read_text() == "free"


def test_another_format_is_refused(gguf):
    with pytest.raises(ValueError, match="not version 2 or 3 of GGUF"):
        gguf.Gguf.read(b"GGUF" + struct.pack("<IQQ", 1, 0, 0))
