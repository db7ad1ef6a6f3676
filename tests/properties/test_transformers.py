"""Runs of transformers models: their attention, their tokenizers, and what is left of them for others to use."""

from __future__ import annotations

import itertools
import json

import pytest
import torch

from kdspec.api.paths.field_path import parse
from kdspec.api.plan.plan import Feature
from kdspec.api.working.batch import Batch
from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.forward.attention.attention_weights import CHOSEN
from kdspec.engine.forward.model_findings import ModelFindings
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.events import StageStarted, StepDone
from kdspec.testing import tiny

SPEC = """\
kdspec: 1
name: texts
tasks:
  texts:
    sequence_classification:
      data: {json: {train: train.jsonl, validation: validation.jsonl, unlabelled: unlabelled.jsonl}}
      text: text
      label: label
models:
  teacher: {transformers: {path: teacher}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 1}, initialize: {layers: [1]}}}
stages:
  fine_tune:
    distiller: {supervised: {model: teacher}}
    training: {steps: 2, batch_size: 4, log_every: 1, evaluate: null}
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        matches: []
    training: {steps: 3, batch_size: 4, log_every: 1}
"""
MATCHES = "stages.distil.distiller.general.matches"
TEXTS = ["a good film", "dull", "the plot was thin, and long", "nice", "very bad indeed", "good", "so so so so", "x"]


@pytest.fixture
def texts(launch, session, tmp_path):
    """Runs the spec with tiny models and a few texts."""
    tiny(tmp_path / "teacher", layers=2, width=16)
    for split, lines in (("train", TEXTS), ("validation", TEXTS[:5]), ("unlabelled", TEXTS[2:4])):
        rows = [{"text": text, "label": ("neg", "pos")[len(text) % 2]} for text in lines]
        rows = [{"text": row["text"]} for row in rows] if split == "unlabelled" else rows
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return lambda *sets, **options: launch(*sets, text=SPEC, **options)


@pytest.fixture
def spy(monkeypatch):
    """Keeps, for each forward pass of a run, the model's name, its batch and its attention."""
    seen = []
    original = ModelRunner.__call__

    def spying(self, batch):
        seen.append(
            (
                self.name,
                {**batch.inputs[""], **batch.targets},
                self.module.config._attn_implementation,
                torch.is_grad_enabled(),
            )
        )
        trains = {module.training for module in self.module.modules()}
        assert trains == {torch.is_grad_enabled()}, "a model is loaded in evaluation mode; the student must train"
        return original(self, batch)

    monkeypatch.setattr(ModelRunner, "__call__", spying)
    return seen


def test_the_student_is_a_folder_for_transformers(texts):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    ran = texts()
    folder = ran.folder / "student"
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    inputs = AutoTokenizer.from_pretrained(folder)("a good film", return_tensors="pt")
    assert model(**inputs).logits.shape == (1, 2)
    assert model.config.id2label == {0: "neg", 1: "pos"}
    assert model.config.num_hidden_layers == 1
    card = (folder / "README.md").read_text()
    assert "library_name: transformers" in card
    assert "pipeline_tag: text-classification" in card
    assert "`neg`, `pos`" in card
    assert "accuracy" in card
    assert not {"is_local", "local_files_only"} & json.loads((folder / "tokenizer_config.json").read_text()).keys()
    assert not list(folder.glob("*.bin"))
    rows = {row.model: row for row in ran.result.table}
    assert rows["teacher"].parameters > rows["student"].parameters
    assert rows["student"].agreement is not None


def test_unlabelled_texts_join_where_a_teacher_labels_them(texts):
    rows = {event.stage: event.rows for event in texts().of(StageStarted)}
    assert rows == {"fine_tune": 8, "distil": 10}


def test_attention_has_weights_where_they_are_read_and_only_there(texts, spy):
    """The faster implementations return none; a later stage has its own back, as it would have in a fresh process."""
    attention = f"{MATCHES}=[{{feature: attention, loss: attention_mse, layers: {{1: 0}}}}]"
    again = "stages.again={distiller: {general: {teacher: teacher, student: student}}, training: {steps: 1, evaluate: null}}"
    ran = texts(attention, again)
    assert all(event.terms["attention.attention_mse.1-0"] > 0 for event in ran.of(StepDone) if event.stage == "distil")
    used = {name: [kind for model, _, kind, _ in spy if model == name] for name in ("teacher", "student")}
    assert {CHOSEN, "sdpa"} == set(used["teacher"])
    assert {"eager", "sdpa"} == set(used["student"])  # its only layer is read
    assert used["teacher"][0] == "sdpa"
    assert used["student"][-1] == "sdpa"


def test_attention_is_that_of_the_model(texts, spy, session, tmp_path):
    """The features of layer 1, counted from 0, equal what the model returns when it is asked directly."""
    from transformers import AutoModel

    plan = session(text=SPEC).plan

    module = AutoModel.from_pretrained(tmp_path / "teacher", attn_implementation="eager").eval()
    features = {
        "attention": Feature(name="attention", paths=(parse("output.attentions"),), several=False, layers=(1,)),
        "hidden": Feature(name="hidden", paths=(parse("output.hidden_states"),), several=False, layers=(0, 2)),
    }
    forward = ModelRunner(ModelFindings(plan.spec, "teacher", "texts"), module, features, chooses=True)
    batch = {"input_ids": torch.tensor([[2, 8, 9, 3]]), "attention_mask": torch.tensor([[1, 1, 1, 0]])}
    with torch.no_grad():
        found = forward(Batch(inputs={"": batch}))
        whole = module(**batch, output_attentions=True, output_hidden_states=True)
    assert torch.equal(found["attention"][1], whole.attentions[1])
    assert torch.allclose(found["attention"][1].sum(-1), torch.ones(()), atol=1e-6)
    assert torch.equal(found["hidden"][0], whole.hidden_states[0])
    assert torch.equal(found["hidden"][2], whole.last_hidden_state)
    assert found["hidden"].keys() == {0, 2}


def of_words(folder):
    """A tokenizer of whole words, in `folder`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", *sorted({word for text in TEXTS for word in text.replace(",", "").split()})]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", model_max_length=32
    )
    fast.save_pretrained(folder)
    return fast


def _letters(text):
    return "".join(character for character in text if character.isalpha())


@pytest.mark.slow
def test_models_with_tokenizers_of_their_own_get_batches_of_their_own(texts, spy, tmp_path):
    """The teacher reads other numbers for the same rows; the table compares the same rows, too."""
    from transformers import AutoTokenizer

    fast = of_words(tmp_path / "words")
    ran = texts("models.student.transformers.tokenizer=words")
    reader = AutoTokenizer.from_pretrained(tmp_path / "teacher")
    pairs = [(t, s) for t, s in itertools.pairwise(spy) if t[0] == "teacher" and s[0] == "student" and s[3]]
    assert pairs
    for (_, taught, _, _), (_, learnt, _, _) in pairs:
        assert taught["input_ids"].shape[0] == learnt["input_ids"].shape[0]
        assert taught["input_ids"].shape != learnt["input_ids"].shape
        assert torch.equal(taught["labels"], learnt["labels"])
        said = reader.decode(taught["input_ids"][0], skip_special_tokens=True)
        read = fast.decode(learnt["input_ids"][0], skip_special_tokens=True)
        assert _letters(said).startswith(_letters(read.split()[0]))
    assert ran.result.table[1].agreement is not None


def test_matching_layers_of_other_tokens_is_an_error(texts, tmp_path):
    of_words(tmp_path / "words")
    with pytest.raises(DiagnosticError) as caught:
        texts(
            "models.student.transformers.tokenizer=words",
            f"{MATCHES}=[{{feature: hidden, loss: cos, layers: {{2: 1}}}}]",
        )
    assert [d.code for d in caught.value.diagnostics] == ["KD402"]


@pytest.mark.slow
def test_checkpointed_activations_change_nothing(texts, same):
    plain = texts(folder="plain")
    saved = texts("stages.distil.training.gradient_checkpointing=true", folder="saved")
    assert same.close(plain.weights, saved.weights, 1e-6)


def test_checkpointing_needs_a_model_that_can(launch):
    with pytest.raises(FindingError) as caught:
        launch("stages.distil.training.gradient_checkpointing=true")
    (found,) = caught.value.findings
    assert found.code == "KD503"
    assert found.help == "only transformers models can"


UNTRAINED = "stages={distil: {distiller: {general: {teacher: teacher, student: student}}, training: {steps: 1}}}"


def noise(ran):
    return [note for note in ran.notes if "predictions are noise" in note]


def test_an_untrained_head_of_a_teacher_is_warned_about(texts):
    ran = texts(UNTRAINED)
    (note,) = noise(ran)
    assert note.startswith(
        "teacher `teacher` has randomly initialised weights, `classifier.bias` and 1 more, and no stage trains it"
    )
    assert "train it in a stage before `distil`" in note


def test_a_trained_teacher_is_not_warned_of(texts, tmp_path):
    first = texts()
    assert not noise(first)
    loaded = f"models.teacher.transformers.path={first.folder / 'models' / 'teacher'}"
    assert not noise(texts(UNTRAINED, loaded, folder="loaded"))


def test_a_new_head_does_not_matter_where_only_layers_are_learnt(texts):
    general = "stages.distil.distiller.general"
    hidden = f"{MATCHES}=[{{feature: hidden, loss: hidden_mse, layers: {{2: 1}}}}]"
    only = (UNTRAINED, hidden, f"{general}.soft_labels.weight=0")
    assert not noise(texts(*only))
    fresh = "{model_type: bert, hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, vocab_size: 120}"
    teacher = f"models.teacher.transformers={{config: {fresh}, tokenizer: teacher}}"
    (note,) = noise(texts(*only, teacher, folder="fresh"))
    assert "`bert.embeddings" in note


@pytest.mark.slow
def test_a_teacher_that_ends_early_teaches_the_same(texts, monkeypatch, same):
    matches = f"{MATCHES}=[{{feature: hidden, loss: hidden_mse, layers: {{1: 1}}}}]"
    sets = (matches, "stages.distil.distiller.general.soft_labels={weight: 0}")
    short = texts(*sets, folder="short")
    monkeypatch.setattr(ModelRunner, "shorten", ModelRunner.__call__)
    whole = texts(*sets, folder="whole")
    assert [event.loss for event in short.of(StepDone)] == [event.loss for event in whole.of(StepDone)]
    assert same.bits(short.weights, whole.weights)
