"""The files of models and tokenizers as people have them: named, and with a way that works."""

from __future__ import annotations

import json
import re
import shlex
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from kdspec.api.kinds.model import ModelContext
from kdspec.api.working.task import Head
from kdspec.builtins.models.transformers import Transformers
from kdspec.diagnostics.fault import Fault
from kdspec.hf import model_files

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 133466304\n"
HEAD = Head(kind="sequence_classification", labels=("bad", "good"))


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def found(folder: Path, **fields) -> list[Fault]:
    """What the check of the spec says of the model in this folder."""
    model = Transformers(path=f"./{folder.name}", **fields)
    context = ModelContext(folder=folder.parent, name="m", models={"m": model})
    return list(model.check(replace(context, facts={"m": model.facts(context)})))


def only(folder: Path, **fields) -> Fault:
    (fault,) = found(folder, **fields)
    assert fault.code == "KD503"
    return fault


def built(folder: Path, **fields):
    return Transformers(path=f"./{folder.name}", **fields).build(ModelContext(folder=folder.parent))


def follow(help_: str) -> None:
    """Run the line of Python that the help prints."""
    (command,) = re.findall(r"`(python -c .*)`", help_)
    *_, code = shlex.split(command)
    exec(compile(code, "help", "exec"), {})


def rewrite(folder: Path, **changes) -> None:
    file = folder / "config.json"
    written = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in written.items() if value is not None}))


def state(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


# Configurations


def test_a_family_that_the_spec_gives_beside_the_path_is_used(tiny):
    rewrite(tiny, model_type=None)
    told = {"config": {"model_type": "bert"}}
    assert found(tiny, **told) == []
    models = {
        "t": Transformers(path="tiny", **told),
        "s": Transformers(like="t", config={"num_hidden_layers": 1}),
    }
    context = ModelContext(folder=tiny.parent, models=models)
    assert models["t"].facts(context).layers == 4
    assert (models["s"].facts(context).family, models["s"].facts(context).layers) == ("bert", 1)
    module = models["t"].build(context)
    assert module.config.num_hidden_layers == 4
    assert torch.equal(module.state_dict()["pooler.dense.weight"], state(tiny)["pooler.dense.weight"])
    assert models["s"].skeleton(context).config.model_type == "bert"
    assert models["t"].tokenizer(context)("a film")["input_ids"] == [2, 4, 13, 3]


def test_a_tokenizer_of_a_vocabulary_alone_has_the_family_that_the_spec_gives(tiny):
    rewrite(tiny, model_type=None)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tiny / name).unlink()
    (tiny / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nfilm")
    model = Transformers(path="tiny", config={"model_type": "bert"})
    assert model.tokenizer(ModelContext(folder=tiny.parent))("a film")["input_ids"] == [2, 5, 6, 3]


def test_a_family_that_nothing_gives_is_to_be_written_into_the_file(tiny):
    rewrite(tiny, model_type=None, architectures=["BertModel"])
    fault = only(tiny)
    assert fault.message == "`config.json` of `./tiny` has no `model_type`"
    (entry,) = re.findall(r"add `(.*?)`", fault.help)
    assert f"config: {{{json.loads(f'{{{entry}}}') and 'model_type: bert'}}}" in fault.help
    rewrite(tiny, **json.loads(f"{{{entry}}}"))
    assert found(tiny) == []
    assert built(tiny) is not None


def test_what_the_spec_gives_beside_the_path_must_be_that_of_the_file(tiny):
    rewrite(tiny, model_type=None)
    with pytest.raises(Fault, match="has 4 as `num_hidden_layers`, not 2"):
        built(tiny, config={"model_type": "bert", "num_hidden_layers": 2})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (POINTER.encode(), "is a pointer of Git LFS"),
        (b"<!DOCTYPE html>\n<html>", "is a web page"),
        (b'{"model_type": "bert",}', "is not JSON: line 1, column"),
        (b"{'model_type': 'bert'}", "is not JSON: line 1, column 2"),
        (b"[]", "is no JSON object"),
        (b"{}", "has no entries"),
        (b'{"model_type": "bert", "model_type": "gpt2"}', "has the key `model_type` twice"),
        (
            b'{"model_type": "bert", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            "is nested more than 64 levels deep",
        ),
        (b'{"model_type": "bert", "vocab_size": ' + b"9" * 5000 + b"}", "has an integer of 5,000 digits"),
        (b'\xef\xbb\xbf{"model_type": "bert"}', "begins with a byte order mark"),
        ('{"model_type": "bert"}'.encode("utf-16"), "is not UTF-8 text"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_known_before_the_run(content, says, tiny):
    (tiny / "config.json").write_bytes(content)
    fault = only(tiny)
    assert says in fault.message
    assert fault.help


# Weights


def test_a_pickle_is_converted_by_the_printed_command(tiny):
    before = built(tiny).state_dict()
    torch.save(state(tiny), tiny / "pytorch_model.bin")
    (tiny / "model.safetensors").unlink()
    fault = only(tiny)
    assert "`pytorch_model.bin`" in fault.message
    follow(fault.help)
    assert found(tiny) == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in built(tiny).state_dict().items())


def test_a_head_survives_the_printed_command(new_model):
    folder = new_model("model", auto="AutoModelForSequenceClassification", num_labels=2)
    torch.save(state(folder), folder / "pytorch_model.bin")
    head = state(folder)["classifier.weight"]
    (folder / "model.safetensors").unlink()
    follow(only(folder).help)
    assert torch.equal(state(folder)["classifier.weight"], head)


@pytest.mark.parametrize("name", ["model.pt", "best.pth"])
def test_a_state_dict_by_another_name_is_converted_by_the_printed_command(name, tiny):
    before = state(tiny)
    torch.save(before, tiny / name)
    (tiny / "model.safetensors").unlink()
    fault = only(tiny)
    assert f"`{name}`" in fault.message
    (tiny / name).rename(tiny / re.findall(r"rename it to `(.*?)`", fault.help)[0])
    follow(fault.help)
    assert found(tiny) == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(tiny).items())


@pytest.mark.parametrize(
    ("name", "library", "option"),
    [("tf_model.h5", "tensorflow", "from_tf"), ("flax_model.msgpack", "flax", "from_flax")],
)
def test_weights_of_other_libraries_are_named_with_the_version_that_reads_them(
    name, library, option, tiny, monkeypatch
):
    (tiny / "model.safetensors").unlink()
    (tiny / name).write_bytes(b"")
    fault = only(tiny)
    assert f"`{name}`, a format of {library}" in fault.message
    asked = []

    class Loaded:
        def save_pretrained(self, folder):
            asked.append(folder)

    def older(folder, **options):
        asked.append((folder, options))
        return Loaded()

    # Version 4 of the library, which has the option, is not here.
    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", older)
    follow(fault.help)
    assert asked == [("tiny", {option: True}), "tiny"]


@pytest.mark.parametrize(
    "name",
    ["onnx/model.onnx", "model_quantized.onnx", "model-q4.gguf", "rust_model.ot", "openvino_model.bin", "m.tflite"],
)
def test_exports_are_named(name, tiny):
    (tiny / "model.safetensors").unlink()
    (tiny / name).parent.mkdir(exist_ok=True)
    (tiny / name).write_bytes(b"x")
    fault = only(tiny)
    assert f"`{name}` is an export" in fault.message
    assert "the folder from which it was exported" in fault.help


def test_files_of_a_trainer_are_not_weights(tiny):
    (tiny / "model.safetensors").unlink()
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (tiny / name).write_bytes(b"x")
    assert found(tiny) == []
    with pytest.raises(Fault, match="no weights, only a configuration"):
        built(tiny)


def test_a_pickle_beside_safetensors_does_not_matter(tiny):
    (tiny / "pytorch_model.bin").write_bytes(b"x")
    assert found(tiny) == []
    assert built(tiny) is not None


def shards(folder: Path) -> Path:
    tensors = state(folder)
    names = sorted(tensors)
    half = len(names) // 2
    files = {"model-00001-of-00002.safetensors": names[:half], "model-00002-of-00002.safetensors": names[half:]}
    for file, part in files.items():
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
    weight_map = {name: file for file, part in files.items() for name in part}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "model.safetensors").unlink()
    return index


def test_shards_are_whole_or_named(tiny):
    index = shards(tiny)
    assert found(tiny) == []
    assert built(tiny) is not None
    written = index.read_text()
    index.unlink()
    assert "without `model.safetensors.index.json`" in only(tiny).message
    index.write_text(POINTER)
    assert "`model.safetensors.index.json` is a pointer" in only(tiny).message
    index.write_text(written)
    (tiny / "model-00002-of-00002.safetensors").write_text(POINTER)
    assert "`model-00002-of-00002.safetensors` is a pointer" in only(tiny).message
    (tiny / "model-00002-of-00002.safetensors").unlink()
    assert only(tiny).message.endswith("names 2 files, and `model-00002-of-00002.safetensors` is not there")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (POINTER.encode(), "is a pointer of Git LFS"),
        (b"<html>", "is a web page"),
        (b"\xff" * 100, "has no header"),
    ],
)
def test_weights_that_are_something_else_are_known_before_the_run(content, says, tiny):
    (tiny / "model.safetensors").write_bytes(content)
    fault = only(tiny)
    assert f"`model.safetensors` {says}" in fault.message.replace("is damaged: it ", "")
    with pytest.raises(Fault, match=r"model\.safetensors"):
        built(tiny)


def test_safetensors_without_tensors(tiny):
    save_file({}, tiny / "model.safetensors")
    assert only(tiny).message == "`model.safetensors` has no tensors"


@settings(max_examples=40, deadline=None)
@given(kept=st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_off_anywhere_is_reported_and_a_whole_one_is_not(kept, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut")
    file = folder / "model.safetensors"
    save_file({"a": torch.ones(7, 3), "b": torch.zeros(2)}, file)
    assert list(model_files.check_weights(folder, "m")) == []
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept * len(whole))])
    (fault,) = model_files.check_weights(folder, "m")
    assert fault.code == "KD503"
    assert "`model.safetensors`" in fault.message


def test_safetensors_by_another_name_are_to_be_renamed(tiny):
    (tiny / "model.safetensors").rename(tiny / "model.fp16.safetensors")
    fault = only(tiny)
    assert fault.message == "the weights are in `model.fp16.safetensors`, not in `model.safetensors`"
    (tiny / "model.fp16.safetensors").rename(tiny / re.findall(r"rename it to `(.*)`", fault.help)[0])
    assert built(tiny) is not None


def test_a_name_that_the_configuration_gives_is_used(tiny):
    (tiny / "model.safetensors").rename(tiny / "own.safetensors")
    rewrite(tiny, transformers_weights="own.safetensors")
    assert found(tiny) == []
    assert built(tiny) is not None


def test_weights_in_the_checkpoint_of_a_trainer_are_found(tiny):
    for step in (90, 500):
        (tiny / f"checkpoint-{step}").mkdir()
        (tiny / f"checkpoint-{step}/model.safetensors").write_bytes((tiny / "model.safetensors").read_bytes())
    (tiny / "model.safetensors").unlink()
    assert only(tiny).help == "did you mean `./tiny/checkpoint-500`?"


def test_an_adapter_beside_a_configuration(tiny):
    (tiny / "model.safetensors").rename(tiny / "adapter_model.safetensors")
    (tiny / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "base", "task_type": "SEQ_CLS", "peft_type": "LORA"})
    )
    fault = only(tiny)
    assert "an adapter, not the weights of a model" in fault.message
    assert "its base model `base`" in fault.help


def test_the_printed_command_merges_an_adapter(tiny, monkeypatch):
    """The library for adapters is not there: what is asked of it is that of its documentation."""
    (tiny / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "tiny", "task_type": "SEQ_CLS"}))
    (tiny / "model.safetensors").unlink()
    asked = []

    class Merged:
        def save_pretrained(self, folder):
            asked.append(folder)

    class Adapted:
        @classmethod
        def from_pretrained(cls, folder, **options):
            asked.append((folder, options))
            return cls()

        def merge_and_unload(self):
            return Merged()

    monkeypatch.setitem(sys.modules, "peft", types.SimpleNamespace(AutoPeftModelForSequenceClassification=Adapted))
    head = {"base_model.model.classifier.weight": torch.zeros(4, 8), "base_model.model.classifier.bias": torch.zeros(4)}
    save_file(head, tiny / "adapter_model.safetensors")
    follow(only(tiny).help)
    assert asked == [("tiny", {"num_labels": 4}), "tiny-merged"]
    assert Path("tiny-merged/tokenizer.json").is_file()


# Tokenizers


@pytest.fixture
def pieces(new_model):
    """A model's folder with a SentencePiece file by this name in place of the tokenizer."""

    def make(name: str, family: str = "albert", **changes) -> Path:
        folder = new_model("pieces", family, **{"embedding_size": 8, **changes})
        (folder / name).write_bytes(b"\n\x0e\n\x05[PAD]\x15\x00\x00\x00\x00\x18\x03")
        return folder

    return make


@pytest.mark.parametrize("name", ["spiece.model", "spm.model", "sentencepiece.bpe.model", "tokenizer.model", "my.spm"])
def test_a_sentencepiece_file_needs_its_package(name, pieces):
    fault = only(pieces(name))
    assert fault.message == f"the tokenizer is a SentencePiece file, `{name}`, and `sentencepiece` is not installed"
    assert fault.help == "`pip install sentencepiece`"
    with pytest.raises(Fault, match="`sentencepiece` is not installed"):
        Transformers(path="pieces").tokenizer(ModelContext(folder=Path.cwd()))


def test_a_sentencepiece_file_of_another_family_is_to_be_renamed(pieces, monkeypatch):
    monkeypatch.setattr(model_files, "_installed", lambda module: True)
    folder = pieces("spm.model")
    assert found(folder) == []
    with pytest.raises(Fault) as caught:
        Transformers(path="pieces").tokenizer(ModelContext(folder=folder.parent))
    assert caught.value.message == "`AlbertTokenizer` reads `spiece.model`, and the folder has `spm.model`"
    assert caught.value.help == "rename `spm.model` to `spiece.model`"


def test_a_vocabulary_without_its_merges_is_no_tokenizer(new_model):
    folder = new_model("model", "roberta")
    (folder / "vocab.json").write_text(
        json.dumps({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4, "b": 5, "ab": 6})
    )
    with pytest.raises(Fault, match=r"a `vocab\.json` without its `merges\.txt`"):
        Transformers(path="model").tokenizer(ModelContext(folder=folder.parent))
    (folder / "merges.txt").write_text("#version: 0.2\na b\n")
    tokenizer = Transformers(path="model").tokenizer(ModelContext(folder=folder.parent))
    assert tokenizer("ab")["input_ids"] == [0, 6, 2]


def test_a_vocabulary_of_bert_alone_is_read(new_model):
    folder = new_model("model")
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nfilm")
    assert found(folder) == []
    tokenizer = Transformers(path="model").tokenizer(ModelContext(folder=folder.parent))
    assert tokenizer("a film")["input_ids"] == [2, 5, 6, 3]


def test_a_vocabulary_alone_does_not_tell_its_kind(tiny):
    words = Path("words")
    words.mkdir()
    (words / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nfilm")
    fault = only(tiny, tokenizer="./words")
    assert fault.at == ("tokenizer",)
    (entry,) = re.findall(r"write `(\{.*\})`", fault.help)
    (words / "tokenizer_config.json").write_text(entry)
    assert found(tiny, tokenizer="./words") == []
    tokenizer = Transformers(path="tiny", tokenizer="./words").tokenizer(ModelContext(folder=tiny.parent))
    assert tokenizer("a film")["input_ids"] == [2, 5, 6, 3]


@pytest.mark.parametrize(
    ("content", "what"), [(POINTER, "a pointer of Git LFS"), ("", "empty"), ("<html>", "a web page")]
)
def test_a_tokenizer_that_is_something_else(content, what, tiny):
    (tiny / "tokenizer.json").write_text(content)
    assert what in only(tiny).message
