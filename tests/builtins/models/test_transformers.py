"""Models of the transformers library."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import transformers
from pydantic import ValidationError
from transformers.utils import logging

from kdspec.api.kinds.model import Model, ModelContext, ModelFacts
from kdspec.api.working.task import Head
from kdspec.builtins.models.text_models import BiGruModel
from kdspec.builtins.models.transformers import Initialize, Transformers
from kdspec.diagnostics.fault import Fault
from kdspec.hf import loading

HEAD = Head(kind="sequence_classification", labels=("bad", "good"))
SMALL = {"model_type": "bert", "num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "vocab_size": 19}


@pytest.fixture(autouse=True)
def _loud():
    """The library's own settings, so that it shows what kdspec keeps quiet."""
    logging.set_verbosity_warning()
    logging.enable_progress_bar()


def keys(error: ValidationError):
    return [(e["type"], e["loc"], e.get("ctx")) for e in error.errors()]


def fault(action, code="KD503", at=()):
    with pytest.raises(Fault) as caught:
        action()
    assert (caught.value.code, caught.value.at) == (code, at), caught.value.message
    return caught.value


def same(one, other):
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# What a spec may say


@pytest.mark.parametrize(
    ("fields", "type_", "loc", "key"),
    [
        ({}, "missing_key", (), "path"),
        ({"config": {"num_hidden_layers": 2}}, "missing_key", ("config",), "model_type"),
        ({"config": {"model_type": 3}}, "missing_key", ("config",), "model_type"),
        ({"config": SMALL, "initialize": {"layers": [0]}}, "missing_key", ("initialize",), "from"),
        ({"path": "a/b", "tokenizer_revision": "v1"}, "missing_key", (), "tokenizer"),
    ],
)
def test_a_key_that_is_missing(fields, type_, loc, key):
    with pytest.raises(ValidationError) as caught:
        Transformers(**fields)
    ((found, at, context),) = keys(caught.value)
    assert (found, at, context["key"]) == (type_, loc, key)


@pytest.mark.parametrize(
    ("fields", "pair"),
    [
        ({"path": "a/b", "like": "t"}, ["path", "like"]),
        ({"path": "a/b", "config": {}}, ["path", "config"]),
        ({"path": "a/b", "initialize": {"layers": [0], "from": "t"}}, ["path", "initialize"]),
        ({"like": "t", "revision": "main"}, ["revision", "like"]),
        ({"config": SMALL, "revision": "main"}, ["revision", "config"]),
    ],
)
def test_keys_that_exclude_each_other(fields, pair):
    with pytest.raises(ValidationError) as caught:
        Transformers(**fields)
    ((type_, loc, context),) = keys(caught.value)
    assert (type_, loc, context["keys"]) == ("exclusive_keys", (), pair)


@pytest.mark.parametrize(
    "fields",
    [
        {"path": "a/b", "dtype": "float64"},
        {"path": "a/b", "attention": "fast"},
        {"path": 3},
        {"like": "t", "initialize": {"layers": []}},
        {"like": "t", "initialize": {"layers": ["0"]}},
        {"like": "t", "initialize": {}},
        {"like": "t", "config": [2]},
        {"path": "a/b", "trust_remote_code": True},
    ],
)
def test_a_value_out_of_range(fields):
    with pytest.raises(ValidationError) as caught:
        Transformers(**fields)
    assert caught.value.error_count() == 1


def test_it_is_written_as_a_spec_would_have_it():
    fields = {"like": "t", "tokenizer": "a/b", "initialize": {"layers": [0], "from": "u"}}
    written = Transformers(**fields).written()["transformers"]
    assert written["tokenizer"] == "a/b"
    assert written["initialize"] == {"layers": [0], "from": "u", "embeddings": True, "head": True}
    assert Transformers(**written) == Transformers(**fields)


def test_the_models_that_it_is_made_from():
    assert Transformers(path="a/b").uses() == ()
    assert Transformers(like="t").uses() == ("t",)
    assert Transformers(like="t", initialize={"layers": [0]}).uses() == ("t",)
    assert Transformers(like="t", initialize={"layers": [0], "from": "u"}).uses() == ("t", "u")


# What is known without weights


def test_facts_follow_the_line_of_models(tiny):
    models = {
        "a": Transformers(path="tiny"),
        "b": Transformers(like="a", config={"num_hidden_layers": 3}),
        "c": Transformers(like="b", config={"hidden_size": 4}),
    }
    context = ModelContext(folder=tiny.parent, models=models)
    assert models["a"].facts(context) == ModelFacts(
        layers=4, width=8, embedding=8, heads=2, family="bert", architecture="BertModel", vocabulary=20
    )
    assert models["c"].facts(context) == ModelFacts(
        layers=3, width=4, embedding=4, heads=2, family="bert", architecture="", vocabulary=20
    )
    assert Transformers(config={"model_type": "gpt2", "n_layer": 2}).facts(context).layers == 2


def test_facts_of_models_in_a_circle_or_like_none_are_unknown():
    models = {"a": Transformers(like="b"), "b": Transformers(like="a"), "c": Transformers(like="c")}
    context = ModelContext(models=models)
    assert all(model.facts(context) == ModelFacts() for model in models.values())
    assert all(model.tokenizer_id(context) is None for model in models.values())
    assert Transformers(like="nobody").facts(context) == ModelFacts()


class Other(Model):
    """A model of somebody else."""

    name = "other"

    def build(self, context):
        return torch.nn.Linear(1, 1)

    def facts(self, context):
        return ModelFacts(layers=7, width=9)

    def tokenizer_id(self, context):
        return "theirs"

    def tokenizer(self, context):
        return "a tokenizer"


def test_a_model_like_one_of_another_kind_has_its_facts_but_not_its_configuration():
    student = Transformers(like="other", config={"num_hidden_layers": 2})
    context = ModelContext(models={"other": Other()})
    assert student.facts(context) == ModelFacts(layers=2, width=9, architecture="")
    assert student.tokenizer_id(context) == "theirs"
    assert student.tokenizer(context) == "a tokenizer"
    fault(lambda: student.build(context), at=("like",))


# Building


def test_a_path_is_loaded_with_a_new_head(tiny):
    module = Transformers(path="tiny").build(ModelContext(folder=tiny.parent, head=HEAD))
    body = transformers.AutoModel.from_pretrained(tiny)
    assert type(module).__name__ == "BertForSequenceClassification"
    assert same(module.bert, body)
    assert module.config.id2label == {0: "bad", 1: "good"}
    assert module.config.label2id == {"bad": 0, "good": 1}
    assert module.config.problem_type == "single_label_classification"


def test_without_a_task_it_is_the_bare_model(tiny):
    assert type(Transformers(path="tiny").build(ModelContext(folder=tiny.parent))).__name__ == "BertModel"


def test_a_task_without_a_head_is_a_fault(tiny):
    head = Head(kind="divination")
    fault(lambda: Transformers(path="tiny").build(ModelContext(folder=tiny.parent, head=head)))


@pytest.mark.parametrize("fields", [{"path": "tiny"}, {"config": SMALL}])
def test_the_same_seed_and_name_draw_the_same_weights(tiny, fields):
    def built(seed=1, name="m"):
        return Transformers(**fields).build(ModelContext(folder=tiny.parent, head=HEAD, seed=seed, name=name))

    torch.manual_seed(0)
    first = built()
    before = torch.random.get_rng_state()
    assert same(first, built())
    assert torch.equal(before, torch.random.get_rng_state())
    assert not same(first, built(seed=2))
    assert not same(first, built(name="n"))


@pytest.mark.parametrize(("dtype", "expected"), [(None, torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_weights_are_float32_by_default(tiny, dtype, expected):
    half = transformers.AutoModel.from_pretrained(tiny, dtype=torch.bfloat16)
    half.save_pretrained(tiny)
    models = {"a": Transformers(path="tiny", dtype=dtype), "b": Transformers(like="a", dtype=dtype)}
    context = ModelContext(folder=tiny.parent, models=models)
    assert models["a"].build(context).dtype == models["b"].build(context).dtype == expected


def test_attention_is_as_written(tiny):
    module = Transformers(path="tiny", attention="eager").build(ModelContext(folder=tiny.parent))
    assert module.config._attn_implementation == "eager"


def test_a_head_for_the_same_labels_is_kept(new_model):
    new_model("model", "bert", "AutoModelForSequenceClassification")
    context = ModelContext(folder=new_model("x").parent, head=HEAD)
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(context.folder / "model")
    assert same(Transformers(path="model").build(context), loaded)


def test_a_head_for_other_labels_is_replaced(new_model):
    folder = new_model("model", "bert", "AutoModelForSequenceClassification", num_labels=3)
    module = Transformers(path="model").build(ModelContext(folder=folder.parent, head=HEAD))
    assert module.classifier.weight.shape == (2, 8)


def test_a_head_with_the_labels_in_another_order_is_a_fault(new_model):
    labels = {"id2label": {0: "good", 1: "bad"}, "label2id": {"good": 0, "bad": 1}}
    folder = new_model("model", "bert", "AutoModelForSequenceClassification", **labels)
    context = ModelContext(folder=folder.parent, name="teacher", head=HEAD, learns={"teacher": ("films",)})
    found = fault(lambda: Transformers(path="model").build(context), "KD317", at=("path",))
    assert found.help == "write `labels: [good, bad]` in task `films`"


def rewrite(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_hidden_layers": 5}, "the files have no `encoder.layer.4"),
        ({"num_hidden_layers": 3}, "the files have `encoder.layer.3"),
        ({"hidden_size": 16}, "is [8] in the files, and [16] by the configuration"),
        ({"vocab_size": 50}, "`embeddings.word_embeddings.weight` is [20, 8] in the files"),
    ],
)
@pytest.mark.parametrize("head", [None, HEAD])
def test_weights_that_are_not_those_of_the_configuration(tiny, changes, says, head):
    rewrite(tiny, **changes)
    found = fault(lambda: Transformers(path="tiny").build(ModelContext(folder=tiny.parent, head=head)), at=("path",))
    assert says.replace("`", "") in found.message.replace("`", "").replace("bert.", "")


def test_a_pickle_is_refused(tiny):
    torch.save({}, tiny / "pytorch_model.bin")
    (tiny / "model.safetensors").unlink()
    found = fault(lambda: Transformers(path="tiny").build(ModelContext(folder=tiny.parent)), at=("path",))
    assert "pytorch_model.bin" in found.message
    assert "save_pretrained" in found.help


def test_a_folder_without_weights(tiny):
    (tiny / "model.safetensors").unlink()
    fault(lambda: Transformers(path="tiny").build(ModelContext(folder=tiny.parent)), at=("path",))


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\xff" * 100])
def test_damaged_weights(tiny, content):
    (tiny / "model.safetensors").write_bytes(content)
    fault(lambda: Transformers(path="tiny").build(ModelContext(folder=tiny.parent)), at=("path",))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"model_type": "nope"}', '{"model_type": "bert", "hidden_size": "x"}']
)
def test_a_damaged_configuration(tiny, text):
    (tiny / "config.json").write_text(text)
    fault(lambda: Transformers(path="tiny").build(ModelContext(folder=tiny.parent)), at=("path",))


def test_code_in_a_folder_is_not_run(tiny):
    rewrite(tiny, model_type="mine", auto_map={"AutoConfig": "mine.Mine", "AutoModel": "mine.Net"})
    (tiny / "mine.py").write_text("raise SystemExit('run')")
    fault(lambda: Transformers(path="tiny").build(ModelContext(folder=tiny.parent)), at=("path",))


def test_a_hub_model_that_does_not_exist_is_reported():
    found = fault(lambda: Transformers(path="nobody/nothing").build(ModelContext()), at=("path",))
    assert "nobody/nothing" in found.message


@pytest.mark.parametrize(
    ("config", "at", "says"),
    [
        ({"model_type": "nope"}, ("config", "model_type"), "`nope`"),
        ({**SMALL, "num_hiden_layers": 2}, ("config", "num_hiden_layers"), "no `num_hiden_layers`"),
        ({**SMALL, "num_labels": 2}, ("config", "num_labels"), "comes from the task"),
        ({**SMALL, "torch_dtype": "float16"}, ("config", "torch_dtype"), "not part of"),
        ({**SMALL, "hidden_size": "wide"}, ("config",), "hidden_size"),
        ({**SMALL, "hidden_size": 9}, ("config",), "multiple"),
        ({**SMALL, "hidden_act": "nope"}, ("config",), "nope"),
    ],
)
def test_a_configuration_that_makes_no_model(config, at, says):
    code = "KD101" if "num_hiden_layers" in config else "KD503"
    found = fault(lambda: Transformers(config=config).build(ModelContext(head=HEAD)), code, at)
    assert says in found.message


@pytest.mark.parametrize(
    ("config", "code", "at"),
    [
        ({"num_hiden_layers": 2}, "KD101", ("config", "num_hiden_layers")),
        ({"intermediate_sise": 2}, "KD101", ("config", "intermediate_sise")),
        ({"num_labels": 2}, "KD503", ("config", "num_labels")),
        ({"hidden_size": "wide"}, "KD103", ("config", "hidden_size")),
        ({"hidden_size": True}, "KD103", ("config", "hidden_size")),
        ({"vocab_size": -1}, "KD104", ("config", "vocab_size")),
        ({"hidden_size": 9, "num_attention_heads": 2}, "KD104", ("config", "num_attention_heads")),
    ],
)
def test_a_configuration_is_checked_without_transformers(config, code, at):
    model = Transformers(config={**SMALL, **config})
    found = list(model.check(ModelContext(name="m", facts={"m": model.facts(ModelContext())})))
    assert [(fault.code, fault.at) for fault in found] == [(code, at)]


@pytest.mark.parametrize(
    "key", ["num_hidden_groups", "hidden_sizes", "num_key_value_heads", "n_layer", "my_own_switch"]
)
def test_an_entry_that_only_resembles_another_is_no_mistake_yet(key):
    model = Transformers(config={"model_type": "other", key: 2})
    assert not list(model.check(ModelContext(name="m", facts={"m": model.facts(ModelContext())})))


def test_the_names_of_other_families_are_understood():
    config = {"model_type": "distilbert", "num_hidden_layers": 1, "hidden_size": 8, "n_heads": 2, "vocab_size": 20}
    assert Transformers(config=config).build(ModelContext()).config.n_layers == 1


def test_like_takes_the_configuration_with_changes(tiny):
    models = {"t": Transformers(path="tiny"), "s": Transformers(like="t", config={"num_hidden_layers": 1})}
    module = models["s"].build(ModelContext(folder=tiny.parent, models=models, head=HEAD))
    assert (module.config.num_hidden_layers, module.config.hidden_size, module.config.vocab_size) == (1, 8, 20)
    assert module.config.num_labels == 2


def test_like_another_family_is_a_fault(tiny):
    models = {"t": Transformers(path="tiny"), "s": Transformers(like="t", config={"model_type": "roberta"})}
    fault(lambda: models["s"].build(ModelContext(folder=tiny.parent, models=models)), at=("config", "model_type"))


@pytest.mark.parametrize("family", ["modernbert", "qwen3", "llama"])
def test_a_model_like_one_with_derived_parts_in_its_configuration(new_model, family):
    folder = new_model("model", family, num_key_value_heads=2, pad_token_id=0)
    changes = {"num_hidden_layers": 2, "hidden_size": 4}
    models = {"t": Transformers(path="model"), "s": Transformers(like="t", config=changes)}
    module = models["s"].build(ModelContext(folder=folder.parent, models=models))
    module(input_ids=torch.tensor([[1, 2]]))
    assert len(getattr(module.config, "layer_types", None) or [1, 2]) == 2
    assert module.config.head_dim in {2, 128} if family != "modernbert" else True


# Initialisation


def teacher_and_student(folder, teacher_head=HEAD, student=None, **initialize):
    models = {
        "t": Transformers(path="tiny"),
        "s": Transformers(like="t", **(student or {"config": {"num_hidden_layers": 2}}), initialize=initialize),
    }
    teacher = models["t"].build(ModelContext(folder=folder.parent, models=models, head=teacher_head, name="t"))
    context = ModelContext(folder=folder.parent, models=models, head=HEAD, name="s", built={"t": teacher})
    return teacher, lambda: models["s"].build(context)


@pytest.mark.parametrize("head", [None, HEAD])
def test_layers_embeddings_and_head_are_copied(tiny, head):
    teacher, build = teacher_and_student(tiny, head, layers=[0, -1])
    student = build()
    body = teacher if head is None else teacher.bert
    assert same(student.bert.encoder.layer[0], body.encoder.layer[0])
    assert same(student.bert.encoder.layer[1], body.encoder.layer[3])
    assert same(student.bert.embeddings, body.embeddings)
    assert same(student.bert.pooler, body.pooler)
    if head is not None:
        assert same(student.classifier, teacher.classifier)


def test_a_copy_does_not_share_memory(tiny):
    teacher, build = teacher_and_student(tiny, layers=[0, 1])
    student = build()
    with torch.no_grad():
        student.bert.encoder.layer[0].output.dense.weight.zero_()
    assert teacher.bert.encoder.layer[0].output.dense.weight.abs().sum() > 0


def test_embeddings_and_head_can_be_left_out(tiny):
    teacher, build = teacher_and_student(tiny, layers=[1, 2], embeddings=False, head=False)
    student = build()
    assert same(student.bert.encoder.layer[0], teacher.bert.encoder.layer[1])
    assert not torch.equal(
        student.bert.embeddings.word_embeddings.weight, teacher.bert.embeddings.word_embeddings.weight
    )
    assert not torch.equal(student.classifier.weight, teacher.classifier.weight)
    assert not torch.equal(student.bert.pooler.dense.weight, teacher.bert.pooler.dense.weight)


@pytest.mark.parametrize(
    ("layers", "student", "at", "says"),
    [
        ([0], None, ("layers",), "1 layer for a student with 2 layers"),
        ([0, 4], None, ("layers", 1), "layer 4 of a model with 4 layers"),
        ([-5, 0], None, ("layers", 0), "layer -5 of a model with 4 layers"),
        (
            [0, 1],
            {"config": {"num_hidden_layers": 2, "hidden_size": 4}},
            ("layers", 0),
            "[4, 4] in the student and [8, 8]",
        ),
        (
            [0, 1],
            {"config": {"num_hidden_layers": 2, "vocab_size": 30}},
            ("embeddings",),
            "[30, 8] in the student and [20, 8]",
        ),
    ],
)
def test_layers_that_do_not_fit(tiny, layers, student, at, says):
    _, build = teacher_and_student(tiny, None, student, layers=layers)
    assert says in fault(build, "KD311", ("initialize", *at)).message


def test_a_vocabulary_that_differs_needs_embeddings_of_its_own(tiny):
    student = {"config": {"num_hidden_layers": 2, "vocab_size": 30}}
    _, build = teacher_and_student(tiny, None, student, layers=[0, 1], embeddings=False)
    assert build().config.vocab_size == 30


def test_layers_of_another_family_do_not_fit(tiny, new_model):
    folder = new_model("gpt", "gpt2")
    source = transformers.AutoModel.from_pretrained(folder)
    models = {
        "g": Transformers(path="gpt"),
        "s": Transformers(config=SMALL, initialize={"layers": [0, 1], "from": "g"}),
    }
    context = ModelContext(folder=folder.parent, models=models, built={"g": source})
    assert "gpt2" in fault(lambda: models["s"].build(context), "KD311", ("initialize", "from")).message


@pytest.mark.parametrize(
    "family", ["bert", "roberta", "distilbert", "electra", "deberta-v2", "mpnet", "gpt2", "llama", "qwen3"]
)
def test_the_layers_of_many_families_are_found(new_model, family):
    folder = new_model("model", family, pad_token_id=0, num_key_value_heads=2)
    models = {
        "t": Transformers(path="model"),
        "s": Transformers(like="t", config={"num_hidden_layers": 2}, initialize={"layers": [0, 3]}),
    }
    context = ModelContext(folder=folder.parent, models=models, head=HEAD)
    teacher = models["t"].build(context)
    student = models["s"].build(ModelContext(folder=folder.parent, models=models, head=HEAD, built={"t": teacher}))
    copied = {
        name: value for name, value in student.state_dict().items() if not torch.equal(value, torch.zeros_like(value))
    }
    theirs = list(teacher.state_dict().values())
    assert all(
        any(value.shape == other.shape and torch.equal(value, other) for other in theirs) for value in copied.values()
    )


def test_a_model_with_shared_layer_weights_has_no_list_of_layers(new_model):
    folder = new_model("model", "albert", embedding_size=8)
    models = {
        "t": Transformers(path="model"),
        "s": Transformers(like="t", config={"num_hidden_layers": 2}, initialize={"layers": [0, 3]}),
    }
    teacher = models["t"].build(ModelContext(folder=folder.parent))
    context = ModelContext(folder=folder.parent, models=models, built={"t": teacher})
    fault(lambda: models["s"].build(context), "KD311", ("initialize",))


# Tokenizers


def test_the_tokenizer_comes_with_the_path_or_from_like(tiny, new_tokenizer):
    new_tokenizer("own")
    models = {
        "t": Transformers(path="tiny"),
        "s": Transformers(like="t"),
        "o": Transformers(like="s", tokenizer="own"),
        "c": Transformers(config=SMALL),
        "h": Transformers(path="owner/name", revision="v1"),
        "r": Transformers(like="h", tokenizer="owner/words", tokenizer_revision="v2"),
        "m": Transformers(path="owner/name", revision="v1", tokenizer="owner/words"),
    }
    context = ModelContext(folder=tiny.parent, models=models)
    ids = {name: model.tokenizer_id(context) for name, model in models.items()}
    assert ids["t"] == ids["s"] == ids["o"]  # the files of both folders are the same
    new_tokenizer("own", pad=False)
    assert models["o"].tokenizer_id(context) != ids["t"]
    assert ids["c"] is None
    assert models["c"].tokenizer(context) is None
    assert (ids["h"], ids["r"], ids["m"]) == ("owner/name@v1", "owner/words@v2", "owner/words@main")
    assert models["s"].tokenizer(context)("a film")["input_ids"] == [2, 4, 13, 3]


@pytest.mark.parametrize("model", [Transformers, BiGruModel])
def test_a_tokenizer_of_its_own_is_read_at_its_own_revision(model, monkeypatch):
    asked = []
    monkeypatch.setattr(loading, "fast_tokenizer", lambda place, revision, at, **_: asked.append((place, revision)))
    fields = {"config": SMALL} if model is Transformers else {}
    made = model(tokenizer="owner/words", tokenizer_revision="v2", **fields)
    made.tokenizer(ModelContext())
    assert asked == [("owner/words", "v2")]
    assert made.tokenizer_id(ModelContext()) == "owner/words@v2"


def test_a_folder_without_a_tokenizer_has_none(new_model):
    context = ModelContext(folder=new_model("model").parent)
    assert Transformers(path="model").tokenizer(context) is None
    assert Transformers(path="model").tokenizer_id(context) is None
    assert Transformers(path="model").build(context) is not None


def test_a_damaged_or_missing_tokenizer_is_reported(tiny):
    (tiny / "tokenizer.json").write_text("{")
    context = ModelContext(folder=tiny.parent)
    fault(lambda: Transformers(path="tiny").tokenizer(context), at=("path",))
    fault(lambda: Transformers(config=SMALL, tokenizer="nobody/nothing").tokenizer(context), at=("tokenizer",))


def test_a_tokenizer_that_knows_no_words(new_model):
    folder = new_model("model")
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    fault(lambda: Transformers(path="model").tokenizer(ModelContext(folder=folder.parent)), at=("path",))


def test_a_vocabulary_that_is_too_small_for_the_tokenizer(tiny):
    student = Transformers(config=SMALL, tokenizer="tiny")
    found = fault(lambda: student.build(ModelContext(folder=tiny.parent, head=HEAD)))
    assert found.help == "write `config: {vocab_size: 20}`"


def test_a_tokenizer_without_padding_pads_with_its_end(new_model, new_tokenizer):
    folder = new_model("gpt", "gpt2", bos_token_id=3, eos_token_id=3)
    new_tokenizer("gpt", pad=False)
    context = ModelContext(folder=folder.parent, head=HEAD)
    assert Transformers(path="gpt").tokenizer(context).pad_token_id == 3
    assert Transformers(path="gpt").build(context).config.pad_token_id == 3


# Saving, and what is shown


@pytest.mark.parametrize("task", ["sequence_classification", "masked_lm"])
def test_what_is_saved_can_be_loaded(tiny, tmp_path, task):
    component = Transformers(path="tiny")
    context = ModelContext(folder=tiny.parent, head=Head(kind=task, labels=("bad", "good")))
    module = component.build(context)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    out = tmp_path / "out"
    component.save(module, out, context)
    again = component.build(context)
    component.load(again, out)
    assert same(module, again)
    assert same(module, type(module).from_pretrained(out))
    assert transformers.AutoTokenizer.from_pretrained(out)("a film")["input_ids"] == [2, 4, 13, 3]
    assert not list(out.glob("*.bin"))


def test_what_is_loaded_must_fit(tiny, tmp_path):
    component = Transformers(path="tiny")
    context = ModelContext(folder=tiny.parent)
    component.save(component.build(context), tmp_path / "out", context)
    other = component.build(ModelContext(folder=tiny.parent, head=HEAD))
    with pytest.raises(RuntimeError, match="Missing key"):
        component.load(other, tmp_path / "out")


def test_nothing_is_printed_and_the_library_s_settings_are_put_back(tiny, tmp_path, capfd):
    models = {"t": Transformers(path="tiny"), "s": Transformers(like="t", config={"num_hidden_layers": 2})}
    context = ModelContext(folder=tiny.parent, models=models, head=HEAD)
    for model in models.values():
        model.save(model.build(context), tmp_path / "out", context)
    fault(lambda: Transformers(path="nobody/nothing").build(context), at=("path",))
    assert capfd.readouterr() == ("", "")
    assert logging.get_verbosity() == logging.WARNING
    assert logging.is_progress_bar_enabled()


def test_initialize_has_the_word_from_as_its_key():
    assert Initialize(**{"layers": [0], "from": "t"}).from_ == "t"


def test_a_skeleton_has_the_shapes_of_the_model_and_reads_no_weights(tiny):
    model, context = Transformers(path=str(tiny)), ModelContext(head=HEAD)
    real = {name: tensor.shape for name, tensor in model.build(context).named_parameters()}
    (tiny / "model.safetensors").write_bytes(b"")
    skeleton = model.skeleton(context)
    assert {name: tensor.shape for name, tensor in skeleton.named_parameters()} == real
    assert {tensor.device.type for tensor in skeleton.parameters()} == {"meta"}


EXPECTED = {"model_type": "bert", "num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12}


def test_a_hub_model_is_known_before_its_download_by_its_written_configuration():
    models = {
        "t": Transformers(path="nobody/nothing", config=EXPECTED),
        "s": Transformers(like="t", config={"num_hidden_layers": 2}),
    }
    known = [model.facts(ModelContext(models=models)) for model in models.values()]
    assert [(facts.family, facts.layers, facts.width, facts.heads) for facts in known] == [
        ("bert", 12, 768, 12),
        ("bert", 2, 768, 12),
    ]
    assert models["s"].skeleton(ModelContext(models=models, weights=False, head=HEAD)).config.num_hidden_layers == 2


def test_a_configuration_beside_a_path_changes_nothing_and_must_be_true(tiny):
    written = json.loads((tiny / "config.json").read_text())
    same = {key: written[key] for key in ("model_type", "num_hidden_layers", "hidden_size")}
    context = ModelContext(folder=tiny.parent, name="m", head=HEAD)
    model = Transformers(path="tiny", config=same)
    assert not list(model.check(replace(context, facts={"m": model.facts(context)})))
    assert model.build(context).config.num_hidden_layers == written["num_hidden_layers"]
    wrong = Transformers(path="tiny", config=same | {"num_hidden_layers": 7})
    (fault,) = wrong.check(replace(context, facts={"m": wrong.facts(context)}))
    assert (fault.code, fault.at) == ("KD503", ("config", "num_hidden_layers"))
    assert "use `like` in place of `path`" in fault.help
    with pytest.raises(Fault, match="as `num_hidden_layers`, not 7"):
        wrong.build(context)
