"""Folders of sentence-transformers: today's and older ones, and what cannot be read of them."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from kdspec.api.kinds.model import ModelContext
from kdspec.api.working.task import Head
from kdspec.builtins.models.transformers import Transformers
from kdspec.diagnostics.fault import Fault
from kdspec.hf.embedding.readout import Readout
from kdspec.hf.embedding.sentence_folder import read_readout, settings_files, tensor_files

TEXTS = ["the film was good", "bad plot", "a b c d e f g very dull"]
OLD = "sentence_transformers.models"
FLAGS = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens", "lasttoken": "lasttoken"}


def context(folder):
    head = Head(kind="embedding")
    return ModelContext(folder=folder, name="model", head=head, heads={"task": head})


def write(file, value):
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(value), encoding="utf-8")


def old_folder(folder, *modules, pooling="mean", **settings):
    """The folder with files as versions before 6 wrote them."""
    kinds = ["Transformer", "Pooling", *modules]
    places = ["", *(f"{number}_{kind}" for number, kind in enumerate(kinds) if number)]
    listed = [
        {"idx": number, "name": str(number), "path": place, "type": f"{OLD}.{kind}"}
        for number, (kind, place) in enumerate(zip(kinds, places, strict=True))
    ]
    write(folder / "modules.json", listed)
    flags = {f"pooling_mode_{flag}": pooling == name for name, flag in FLAGS.items()}
    write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 8, **flags, **settings})
    return folder


def vectors(folder):
    """What kdspec makes of the texts."""
    component, made = Transformers(path=f"./{folder.name}"), context(folder.parent)
    module = component.build(made).eval()
    batch = component.tokenizer(made)(TEXTS, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        found = module(**batch).embedding
    assert found.shape[1] == component.facts(made).embedding
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken"])
@pytest.mark.parametrize("rest", [[], ["Normalize"], ["Dense"], ["Dense", "Dense", "Normalize"]])
def test_a_folder_of_today_gives_the_vectors_of_the_library(tiny, tmp_path, pooling, rest):
    library = pytest.importorskip("sentence_transformers")
    torch.manual_seed(1)
    kinds, widths = library.sentence_transformer.modules, iter([(8, 6), (6, 4)])
    made = [kinds.Transformer(str(tiny)), kinds.Pooling(8, pooling)]
    made += [kinds.Dense(*next(widths)) if kind == "Dense" else kinds.Normalize() for kind in rest]
    model = library.SentenceTransformer(modules=made, device="cpu", prompts={"query": "a ", "passage": "b "})
    model.max_seq_length = 6
    model.save(str(tmp_path / "saved"))
    assert torch.allclose(vectors(tmp_path / "saved"), model.encode(TEXTS, convert_to_tensor=True), atol=1e-6)
    prompts = Transformers(path="./saved").prompts(context(tmp_path))
    assert {name: prompts[name] for name in ("query", "document")} == {"query": "a ", "document": "b "}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("pooling", FLAGS)
def test_an_older_folder_gives_the_vectors_of_the_library(tiny, pooling):
    library = pytest.importorskip("sentence_transformers")
    old_folder(tiny, "Normalize", pooling=pooling)
    write(tiny / "sentence_bert_config.json", {"max_seq_length": 5, "do_lower_case": False})
    expected = library.SentenceTransformer(str(tiny), device="cpu").encode(TEXTS, convert_to_tensor=True)
    assert torch.allclose(vectors(tiny), expected, atol=1e-6)


def test_the_transformer_of_the_first_version_is_in_a_folder_of_its_own(tiny, tmp_path):
    (tmp_path / "whole").mkdir()
    whole = old_folder(tmp_path / "whole", "Normalize", pooling="cls")
    listed = json.loads((whole / "modules.json").read_text(encoding="utf-8"))
    listed[0]["path"] = "0_Transformer"
    write(whole / "modules.json", listed)
    shutil.copytree(tiny, whole / "0_Transformer")
    found = read_readout(whole / "0_Transformer")
    assert (found.pooling, found.normalize) == ("first", True)
    assert [file.name for file in settings_files(whole / "0_Transformer")] == ["modules.json", "config.json"]


def test_a_folder_of_transformers_alone_says_nothing(tiny):
    assert read_readout(tiny) is None
    assert settings_files(tiny) == tensor_files(tiny) == ()
    assert Transformers(path="./tiny").read_out(context(tiny.parent)) == Readout()


def test_the_limit_of_tokens_and_the_default_prompt_are_read(tiny):
    old_folder(tiny)
    write(tiny / "sentence_bert_config.json", {"max_seq_length": 5})
    write(tiny / "config_sentence_transformers.json", {"prompts": {"sts": "the "}, "default_prompt_name": "sts"})
    component, made = Transformers(path="./tiny"), context(tiny.parent)
    assert component.tokenizer(made).model_max_length == 5
    assert component.tokenizer_id(made).endswith(", at most 5 tokens")
    assert component.prompts(made) == {"sts": "the ", "": "the "}
    other = ModelContext(folder=tiny.parent, name="model")
    assert component.tokenizer(other).model_max_length == 64  # of no concern for other tasks
    assert component.prompts(other) == {}


def test_what_is_read_is_part_of_the_identity_of_a_run(tiny):
    old_folder(tiny, "Dense")
    write(tiny / "2_Dense" / "config.json", {"in_features": 8, "out_features": 4})
    (tiny / "2_Dense" / "model.safetensors").write_bytes(b"")
    component, made = Transformers(path="./tiny"), context(tiny.parent)
    files = [str(file.relative_to(tiny)) for found in component.read_files(made) for file in found.files]
    assert {"modules.json", "1_Pooling/config.json", "2_Dense/config.json"} <= {*files}
    assert tiny / "2_Dense" / "model.safetensors" in component.weight_files(made)


@pytest.mark.parametrize(
    ("modules", "settings", "message"),
    [
        (["WeightedLayerPooling"], {}, "a module that kdspec does not know, `sentence_transformers.models.WeightedLayerPooling`"),
        (["Normalize", "Dense"], {}, "`modules.json` has its modules in an order that kdspec does not know"),
        ([], {"pooling_mode": "weightedmean"}, "`1_Pooling/config.json` pools by `weightedmean`, which kdspec does not"),
        ([], {"pooling_mode": ["cls", "mean"]}, "pools by `cls` and `mean` together"),
        ([], {"pooling_mode_max_tokens": True}, "pools by `max` and `mean` together"),
        (["Dense"], {}, "`2_Dense/config.json` is not there"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_a_fault(tiny, modules, settings, message):
    old_folder(tiny, *modules, **settings)
    with pytest.raises(Fault) as caught:
        read_readout(tiny)
    assert (caught.value.code, caught.value.at) == ("KD503", ("path",))
    assert message in caught.value.message
    (found,) = Transformers(path="./tiny").check(context(tiny.parent))
    assert found.message == caught.value.message
    assert list(Transformers(path="./tiny").check(ModelContext(folder=tiny.parent, name="model"))) == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"out_features": "4"}, "has no `out_features` that is a width"),
        ({"out_features": 4, "use_residual": True}, "adds its input to its output"),
        ({"out_features": 4, "activation_function": "mine.Act"}, "has the activation `mine.Act`"),
        ({"out_features": 4, "activation_function": "torch.nn.modules.activation.Softmax"}, "Softmax`, which kdspec does not"),
        ({"out_features": 4, "module_input_name": "token_embeddings"}, "has `token_embeddings` as `module_input_name`"),
        ({"out_features": 4}, "`2_Dense` has no `model.safetensors`"),
    ],
)  # fmt: skip
def test_a_dense_layer_that_cannot_be_read_is_a_fault(tiny, config, message):
    old_folder(tiny, "Dense")
    write(tiny / "2_Dense" / "config.json", config)
    with pytest.raises(Fault) as caught:
        read_readout(tiny)
    assert message in caught.value.message


def test_files_that_are_damaged_or_lead_elsewhere_are_faults(tiny):
    old_folder(tiny)
    for text, message in {
        "[": "`modules.json` is not JSON",
        "{}": "`modules.json`",
        '[{"type": "x", "path": "../other"}]': "names `../other`, which is not in the folder",
    }.items():
        (tiny / "modules.json").write_text(text, encoding="utf-8")
        with pytest.raises(Fault) as caught:
            read_readout(tiny)
        assert message in caught.value.message


def test_dense_layers_of_a_folder_are_not_replaced_by_those_of_a_spec(tiny):
    old_folder(tiny, "Dense")
    write(tiny / "2_Dense" / "config.json", {"in_features": 8, "out_features": 4})
    (tiny / "2_Dense" / "model.safetensors").write_bytes(b"x")
    (found,) = Transformers(path="./tiny", readout={"dense": [3]}).check(context(tiny.parent))
    assert (found.at, found.message) == (("readout", "dense"), "the folder has dense layers of its own, of width 4")
    changed = Transformers(path="./tiny", readout={"pooling": "max"}).read_out(context(tiny.parent))
    assert (changed.pooling, changed.width(8)) == ("max", 4)


def test_weights_of_another_shape_than_the_settings_are_a_fault(tiny):
    from safetensors.torch import save_file

    old_folder(tiny, "Dense")
    write(tiny / "2_Dense" / "config.json", {"in_features": 8, "out_features": 4})
    save_file(
        {"linear.weight": torch.ones(5, 8), "linear.bias": torch.ones(4)}, str(tiny / "2_Dense" / "model.safetensors")
    )
    with pytest.raises(Fault, match=r"`linear.weight` in `2_Dense/model.safetensors` is \[5, 8\], and \[4, 8\]"):
        Transformers(path="./tiny").build(context(tiny.parent))


def test_a_readout_without_a_task_for_it_is_a_warning(tiny):
    head = Head(kind="sequence_classification")
    made = ModelContext(folder=tiny.parent, name="model", head=head, heads={"task": head})
    (found,) = Transformers(path="./tiny", readout={"pooling": "max"}).check(made)
    assert (found.code, found.at) == ("KD305", ("readout",))
    assert "`readout` has no effect" in found.message


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_saved_folder_gives_documents_the_prompt_of_its_model(tiny, tmp_path):
    """Version 6 of the library overlooks a prompt by the name `passage`."""
    library = pytest.importorskip("sentence_transformers")
    old_folder(tiny)
    write(tiny / "config_sentence_transformers.json", {"prompts": {"query": "a ", "passage": "b "}})
    component, made = Transformers(path="./tiny"), context(tiny.parent)
    assert component.prompts(made) == {"query": "a ", "passage": "b ", "document": "b "}
    (tmp_path / "saved").mkdir()
    component.save(component.build(made), tmp_path / "saved", made)
    model = library.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    expected = model.encode([f"b {text}" for text in TEXTS], convert_to_tensor=True)
    assert torch.allclose(model.encode_document(TEXTS, convert_to_tensor=True), expected, atol=1e-6)


class Hub:
    """A hub with a model, and a cache that has what was downloaded."""

    def __init__(self, monkeypatch, folder, cache, *, reached=True):
        import huggingface_hub

        self.folder, self.cache, self.reached, self.asked = folder, cache, reached, []
        cache.mkdir()
        shutil.copy(folder / "config.json", cache)
        for name in ("try_to_load_from_cache", "hf_hub_download", "snapshot_download"):
            monkeypatch.setattr(huggingface_hub, name, getattr(self, name))

    def try_to_load_from_cache(self, name, file, revision=None):
        return str(self.cache / file) if (self.cache / file).is_file() else None

    def hf_hub_download(self, name, file, revision=None):
        from huggingface_hub import errors

        self.asked.append(file)
        if not self.reached:
            raise errors.LocalEntryNotFoundError("couldn't connect to the hub")
        if not (self.folder / file).is_file():
            raise errors.EntryNotFoundError("404")

    def snapshot_download(self, name, revision=None, allow_patterns=()):
        self.asked.append("snapshot")
        shutil.copytree(self.folder, self.cache, dirs_exist_ok=True)


def on_the_hub(folder):
    head = Head(kind="embedding")
    made = ModelContext(folder=folder, name="model", head=head, heads={"task": head})
    return Transformers(path="owner/name", config={"model_type": "bert"}), made


def test_the_readout_of_a_hub_model_is_downloaded_once(tiny, tmp_path, monkeypatch):
    hub = Hub(monkeypatch, old_folder(tiny, "Normalize", pooling="cls"), tmp_path / "cache")
    component, made = on_the_hub(tmp_path)
    assert component.read_out(made) == Readout()
    component.fetch(made)
    component.fetch(made)
    assert hub.asked == ["modules.json", "snapshot"]
    assert (component.read_out(made).pooling, component.read_out(made).normalize) == ("first", True)


def test_a_hub_model_without_a_readout_is_pooled_by_the_mean(tiny, tmp_path, monkeypatch):
    hub = Hub(monkeypatch, tiny, tmp_path / "cache")
    component, made = on_the_hub(tmp_path)
    component.fetch(made)
    assert hub.asked == ["modules.json"]
    assert component.read_out(made) == Readout()


def test_a_readout_that_cannot_be_looked_up_is_a_fault(tiny, tmp_path, monkeypatch):
    Hub(monkeypatch, tiny, tmp_path / "cache", reached=False)
    component, made = on_the_hub(tmp_path)
    with pytest.raises(Fault, match="how `owner/name` makes a vector of a text, and the hub cannot be reached"):
        component.fetch(made)
