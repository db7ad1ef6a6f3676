"""The task of tagging words."""

from __future__ import annotations

import datasets
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from task_batches import agreement_of, all_metrics_of, batch_of, encoded, loss_of, metrics_of, states_of

from kdspec.api.kinds.context import BuildContext, TaskContext, TrainedHead
from kdspec.api.kinds.kinds import Dataset
from kdspec.api.working.task import Head, Reader
from kdspec.builtins.datasets.conll import Conll
from kdspec.builtins.tasks.token_classification import TokenClassification
from kdspec.data.confidence import METRICS, of_classes
from kdspec.diagnostics.fault import Fault
from kdspec.testing import tiny

ROWS = {
    "tokens": [["EU", "rejects", "German", "call"], ["Peter", "Blackburn"]],
    "tags": [["B-ORG", "O", "B-MISC", "O"], ["B-PER", "I-PER"]],
}
LABELS = ("O", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER")


class Rows(Dataset):
    """Splits that a test has made."""

    name = "rows"
    splits: dict

    def build(self, context):
        return datasets.DatasetDict(
            {
                name: rows if isinstance(rows, datasets.Dataset) else datasets.Dataset.from_dict(rows)
                for name, rows in self.splits.items()
            }
        )

    def column_names(self, context):
        return {name: list(rows) for name, rows in self.splits.items()}


def task(splits=None, **fields):
    return TokenClassification(data=Rows(splits=splits or {"train": ROWS}), **fields)


def built(splits=None, **fields):
    return task(splits, **fields).build(TaskContext())


def sentences(*tags):
    """Rows with these tags for words of no meaning."""
    of = [tag.split() for tag in tags]
    return {"train": {"tokens": [["a"] * len(tag) for tag in of], "tags": of}}


def fault(action, code, at):
    with pytest.raises(Fault) as caught:
        action()
    assert (caught.value.code, caught.value.at) == (code, at), caught.value.message
    return caught.value


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Makes a token of each letter."""
    return transformers.AutoTokenizer.from_pretrained(tiny(tmp_path_factory.mktemp("letters"), layers=1, width=4))


@pytest.fixture(scope="module")
def chinese():
    """A tokenizer of Chinese characters, as BERT's."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {piece: n for n, piece in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"我在北京天安门"])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    marks = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair=None, special_tokens=marks)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")


# The spec


@pytest.mark.parametrize(
    ("fields", "loc"),
    [
        ({"scheme": "iob"}, ("scheme",)),
        ({"convert_to": "iob1"}, ("convert_to",)),
        ({"labels": ["O", "O"]}, ("labels",)),
        ({"labels": ["O"]}, ("labels",)),
        ({"max_length": 2}, ("max_length",)),
        ({"long_sentences": "drop"}, ("long_sentences",)),
        ({"metric": "mcc"}, ("metric",)),
        ({"tags": 1}, ("tags",)),
    ],
)
def test_a_value_out_of_range(fields, loc):
    with pytest.raises(ValidationError) as caught:
        task(**fields)
    assert {error["loc"] for error in caught.value.errors()} == {loc}


def test_a_missing_column_is_found_before_a_run():
    (found,) = task(tokens="words").check(BuildContext())
    assert (found.code, found.at) == ("KD312", ("tokens",))
    assert list(task({"train": {"tokens": []}, "test": {"tokens": []}}).check(BuildContext())) == []
    assert task().label_columns() == {("tags",): "tags"}


def test_what_plain_tags_have_no_use_for():
    (found,) = task(scheme="plain", metric="f1").check(BuildContext())
    assert (found.code, found.at, found.message) == (
        "KD312",
        ("metric",),
        "`metric: f1` needs tags that mark entities, and `scheme: plain` has none",
    )
    fault(lambda: built(sentences("DET NOUN"), convert_to="bmes"), "KD312", ("convert_to",))
    assert list(task(scheme="plain", metric="ece").check(BuildContext())) == []
    assert task(scheme="plain").metric_names() == ("accuracy", *METRICS)


# Rows and tags


def test_labels_are_all_tags_of_each_type():
    assert built().head == Head(kind="token_classification", labels=LABELS)
    assert built(sentences("NOUN DET", "VERB")).head.labels == ("DET", "NOUN", "VERB")
    assert built(sentences("B E S", "S")).head.labels == ("B", "I", "E", "S")
    assert built(labels=list(LABELS[::-1])).head.labels == LABELS[::-1]


def test_the_metric_follows_the_tags():
    def chosen(task):
        return task.evaluator("train").primary.name

    assert chosen(built()) == "f1"
    assert chosen(built(metric="recall")) == "recall"
    assert chosen(built(sentences("NOUN DET"))) == "accuracy"


def test_tags_are_converted(tokenizer):
    found = built(sentences("I-PER I-PER B-PER O"), convert_to="bmes")
    assert found.head.labels == ("O", "B-PER", "M-PER", "E-PER", "S-PER")
    labels = encoded(found, "train", tokenizer)[0]["labels"]
    assert [found.head.labels[label] for label in labels[1:-1]] == ["B-PER", "E-PER", "S-PER", "O"]


def test_a_data_set_that_knows_the_names_of_its_tags(tokenizer):
    features = {
        "tokens": datasets.List(datasets.Value("string")),
        "tags": datasets.List(datasets.ClassLabel(names=["O", "B-X", "I-X"])),
    }
    rows = {"tokens": [["a", "b"]], "tags": [[1, 2]]}
    found = built({"train": datasets.Dataset.from_dict(rows, features=datasets.Features(features))})
    assert found.head.labels == ("O", "B-X", "I-X")
    assert encoded(found, "train", tokenizer)[0]["labels"] == [-100, 1, 2, -100]


def test_rows_without_tags(tokenizer):
    splits = {
        "train": {"tokens": [["a"], ["b"], ["c"]], "tags": [["B-X"], None, []]},
        "test": {"tokens": [["a"]]},
        "unlabelled": {"tokens": [["a"]], "tags": [["Z"]]},
    }
    found = built(splits)
    for split, rows in (("train", [1, 2]), ("test", [0]), ("unlabelled", [0])):
        examples = encoded(found, split, tokenizer)
        assert all(examples[row]["labels"] == [-100] * 3 and examples[row]["word_mask"] == [0, 1, 0] for row in rows)


@pytest.mark.parametrize(
    ("columns", "code", "at", "message"),
    [
        ({"tags": [["O"]]}, "KD312", ("tags",), "row 1 of `train` has 2 words and 1 tag"),
        ({"tags": ["O O"]}, "KD502", ("tags",), "row 1 of `train` has a text, not a list of tags, in `tags`"),
        ({"tags": [["O", None]]}, "KD502", ("tags",), "word 2 in row 1 of `train` has no tag"),
        ({"tags": [["O", ""]]}, "KD502", ("tags",), "word 2 in row 1 of `train` has no tag"),
        ({"tags": [None]}, "KD312", ("tags",), "the column `tags` of `train` has no tags"),
        ({"tags": [["O", "O"]]}, "KD312", ("tags",), "`train` has only the tag `O`"),
        ({"tokens": ["a b"]}, "KD502", ("tokens",), "row 1 of `train` has a text, not a list of words, in `tokens`"),
        ({"tokens": [[]]}, "KD502", ("tokens",), "row 1 of `train` has an empty list in `tokens`"),
        ({"tokens": [["a", None]]}, "KD502", ("tokens",), "word 2 in row 1 of `train` is nothing"),
    ],
)
def test_mistakes_in_a_row(columns, code, at, message):
    rows = {"tokens": [["a", "b"]], "tags": [["B-X", "O"]], **columns}
    assert fault(lambda: built({"train": rows}), code, at).message == message


def test_a_tag_that_train_does_not_have():
    splits = {"train": ROWS, "test": {"tokens": [["a", "b"]], "tags": [["O", "B-ORGA"]]}}
    found = fault(lambda: built(splits), "KD312", ("tags",))
    assert found.message.startswith("word 2 in row 1 of `test` has the tag `B-ORGA`, which is not among `O`, `B-MISC`")
    assert found.help == "did you mean `B-ORG`?"
    fault(lambda: built(labels=["O", "B-PER", "I-PER"]), "KD312", ("labels",))


def test_a_tag_that_breaks_the_scheme():
    splits = sentences("B-X O", "O I-X B-X")
    found = fault(lambda: built(splits), "KD312", ("tags",))
    assert found.message == (
        "word 2 in row 2 of `train` has the tag `I-X`: it continues an entity that has not begun, after `O`"
    )
    assert found.help == "with `scheme: iob1` it begins an entity"
    assert built(splits, scheme="iob1").head.labels == ("O", "B-X", "I-X")
    assert fault(lambda: built(splits, scheme="bmes"), "KD312", ("scheme",)).notes == ("the scheme is `bmes`",)


@pytest.mark.parametrize(
    ("last", "fields", "message"),
    [
        ("I-X", {}, "words.txt:5: word 2 in row 2 of `train` has the tag `I-X`: it continues an entity"),
        ("X", {}, "words.txt:5: word 2 in row 2 of `train` has the tag `X`, which marks no entity"),
        (
            "B-Y",
            {"labels": ["O", "B-X"]},
            "words.txt:5: word 2 in row 2 of `train` has the tag `B-Y`, which is not among",
        ),
        ("", {}, "words.txt:5: word 2 in row 2 of `train` has no tag"),
    ],
)
def test_a_wrong_tag_is_named_by_the_line_of_its_file(last, fields, message, tmp_path):
    (tmp_path / "words.txt").write_text(f"a\tB-X\n\n\nb\tO\nc\t{last}\n\nd\tB-X\n")
    tagging = TokenClassification(data=Conll(train=["words.txt"], separator="\t"), **fields)
    with pytest.raises(Fault) as caught:
        tagging.build(TaskContext(folder=tmp_path))
    assert caught.value.message.startswith(message)


NER = ("O", "B-corp", "I-corp", "B-person", "I-person")


def numbered(*rows, **splits):
    """Rows with these tags for words of no meaning, and other splits."""
    made = {name: {"tokens": [["a"] * len(tags) for tags in of], "tags": list(of)} for name, of in splits.items()}
    return {"train": {"tokens": [["a"] * len(tags) for tags in rows], "tags": list(rows)}, **made}


def told(splits, *heads, **fields):
    """The built task, and what was told."""
    messages = []
    context = TaskContext(heads=heads, tell=messages.append)
    found = task(splits, **fields).build(context)
    assert {fault.code for fault in messages} <= {"KD316"}
    return found, [fault.message for fault in messages]


def names(found, split="train"):
    return [tags and [found.head.labels[tag] if tag >= 0 else None for tag in tags] for tags in found._tags[split]]


def test_numbers_have_the_names_of_labels_or_of_a_head():
    splits = numbered([0, 3, 4, 0], [1, 2, 0, 0])
    right = [["O", "B-person", "I-person", "O"], ["B-corp", "I-corp", "O", "O"]]
    for heads, fields in (((), {"labels": list(NER)}), ((TrainedHead(model="teacher", classes=5, labels=NER),), {})):
        found, messages = told(splits, *heads, **fields)
        assert found.head.labels == NER
        assert names(found) == right
        assert found.evaluator("train").primary.name == "f1"
        assert len(messages) == len(heads)


def test_numbers_without_names_are_plain_tags_in_the_order_of_their_values():
    found, messages = told(numbered([0, 10, 2], [1, 11, 9]))
    assert found.head.labels == ("0", "1", "2", "9", "10", "11")
    assert found.evaluator("train").primary.name == "accuracy"
    assert messages == ["the tags in `tags` are numbers without names: they count as plain tags"]


@pytest.mark.parametrize(
    ("tags", "fields"),
    [
        (["B-X", -100, "O"], {}),
        (["B-X", "_", "O"], {"missing": "_"}),
        ([1, -100, 0], {"labels": ["O", "B-X"]}),
        ([1, -1, 0], {"labels": ["O", "B-X"]}),
    ],
)
def test_words_without_a_tag_count_in_no_loss_and_no_metric(tags, fields, tokenizer):
    tags = tags if all(isinstance(tag, int) for tag in tags) else list(map(str, tags))
    found, _ = told(numbered(tags, tags), **fields)
    assert names(found) == [["B-X", None, "O"]] * 2
    example = encoded(found, "train", tokenizer)[0]
    assert example["labels"] == [-100, *found._tags["train"][0], -100]
    assert example["word_mask"] == [0, 1, 0, 1, 0]
    assert answered(found, "train", tokenizer, [["B-X", "O", "O"]] * 2)["f1"] == 1.0
    pieces, _ = told(numbered(tags, tags), label_all_pieces=True, **fields)
    assert encoded(pieces, "train", tokenizer)[0]["labels"] == example["labels"]


def test_a_word_without_a_tag_does_not_part_an_entity(tokenizer):
    splits = numbered([1, -100, 2, 0], [1, 2, -100, -100])
    found, _ = told(splits, labels=["O", "B-X", "I-X"])
    said = [["B-X", "O", "I-X", "O"], ["B-X", "I-X", "O", "B-X"]]
    assert answered(found, "train", tokenizer, said) == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "accuracy": 1.0}


def test_many_words_may_have_the_tag_minus_one():
    assert names(told(numbered([0, -1, 1, -1]))[0]) == [["0", None, "1", None]]


def test_a_sentence_of_words_without_tags_is_unlabelled(tokenizer):
    found, _ = told(numbered(["B-X", "O"], test=[["-100", "-100"], ["O", "-100"]]))
    assert (found.labelled("test"), found.rows("test"), found.labelled("train")) == (1, 2, 1)
    assert [example["word_mask"] for example in encoded(found, "test", tokenizer)] == [[0, 1, 1, 0], [0, 1, 0, 0]]


def test_numbers_that_the_data_set_names_may_be_ignored():
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "tags": datasets.List(datasets.ClassLabel(names=["O", "B-X"])),
        }
    )
    rows = datasets.Dataset.from_dict({"tokens": [["a", "b", "c"]], "tags": [[1, -1, 0]]}, features=features)
    assert names(told({"train": rows})[0]) == [["B-X", None, "O"]]


MANY = ["O B-X I-X O B-Y"] * 9


@pytest.mark.parametrize("tag", ["B_X", "o", "0", "X", "BX", "O-X"])
def test_one_odd_tag_is_a_mistake(tag):
    found = fault(lambda: built(sentences(*MANY, f"O B-X {tag} {tag}")), "KD312", ("tags",))
    assert found.message == f"word 3 in row 10 of `train` has the tag `{tag}`, which marks no entity"
    assert found.notes == (f"2 tags of `train` are neither `O` nor that of an entity: `{tag}`",)
    assert (
        found.help
        == "correct it: tags are `O`, `B-PER`, `I-PER` and the like; `scheme: plain` takes all tags as they are"
    )
    assert built(sentences(*MANY, f"O B-X {tag} {tag}"), scheme="plain").evaluator("train").primary.name == "accuracy"
    with_metric = fault(lambda: built(sentences(*MANY, f"O {tag}"), metric="f1"), "KD312", ("tags",))
    assert with_metric.message == f"word 2 in row 10 of `train` has the tag `{tag}`, which marks no entity"
    assert "plain" not in with_metric.help
    assert (
        "leave it out"
        not in fault(lambda: built(sentences(*MANY, f"O {tag}"), scheme="iob2"), "KD312", ("scheme",)).help
    )


def test_many_small_o_do_not_make_tags_plain():
    fault(lambda: built(sentences("O B-X I-X", "o o o o o o o o")), "KD312", ("tags",))


@pytest.mark.parametrize("tag", ["b-per", "B_PER", "B:PER", "PER-B"])
def test_entities_in_another_spelling_are_told(tag):
    found, messages = told(sentences(*[f"O {tag} O O"] * 3))
    assert found.evaluator("train").primary.name == "accuracy"
    assert messages == [f"the tags in `tags` count as plain, and most look like those of entities: `{tag}`"]
    assert told(sentences(*[f"O {tag} O O"] * 3), scheme="plain")[1] == []


def test_parts_of_speech_are_plain_without_a_word():
    assert told(sentences("DET NOUN VERB . , -LRB- ``", "PRP$ CC"))[1] == []


def test_tags_are_needed_where_a_loss_reads_them():
    splits = {"train": {"tokens": [["a"]]}}
    head = TrainedHead(model="teacher", classes=5, labels=NER)
    found = task(splits).build(TaskContext(heads=(head,), reads_labels=False))
    assert (found.head.labels, found.labelled("train")) == (NER, 0)
    assert found.evaluator("validation").primary.name == "f1"
    assert task(splits, labels=list(NER)).build(TaskContext(reads_labels=False)).head.labels == NER
    fault(lambda: built(splits), "KD312", ("tags",))
    fault(lambda: task(splits).build(TaskContext(reads_labels=False)), "KD312", ("tags",))


def test_a_test_split_of_one_tag_is_told():
    _, messages = told({**sentences(*MANY), "test": {"tokens": [["a"] * 12], "tags": [["O"] * 12]}})
    assert messages == ["all 12 words of `test` have the label `O` in `tags`"]


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from((0, 1, 2, -100)), min_size=1, max_size=6), min_size=1, max_size=5))
def test_words_that_are_ignored_change_no_metric(rows):
    """The metrics of right answers are best, whatever is predicted for words without a tag."""
    rows = [[0, 1, 2], *rows]
    found = task(numbered(*rows), labels=["O", "B-X", "B-Y"]).build(TaskContext())
    evaluator = found.evaluator("train")
    words = [(n, word, max(tag, 0)) for n, tags in enumerate(rows) for word, tag in enumerate(tags)]
    tags, truth = torch.tensor([place[2] for place in words]), torch.tensor([tag for row in rows for tag in row])
    state = {
        "sentences": torch.arange(len(rows)),
        "words": torch.tensor([place[:2] for place in words]),
        "tags": tags,
        "truth": truth,
        **of_classes(900.0 * torch.eye(3)[tags], truth),
    }
    best = {"f1": 1.0, "precision": 1.0, "recall": 1.0, "accuracy": 1.0, "coverage_at_95": 1.0}
    assert evaluator.merge([state]) == {**dict.fromkeys(METRICS, 0.0), **best}


# Inputs


def test_the_label_of_a_word_is_at_its_first_token(tokenizer):
    example = encoded(built({"train": {"tokens": [["ab", "c"]], "tags": [["B-X", "I-X"]]}}), "train", tokenizer)[0]
    assert example["labels"] == [-100, 0, -100, 1, -100]
    assert example["word_mask"] == [0, 1, 0, 1, 0]


def test_or_at_all_of_them(tokenizer):
    splits = {"train": {"tokens": [["abc", "de", "f"]], "tags": [["B-X", "I-X", "O"]]}}
    found = built(splits, label_all_pieces=True)
    example = encoded(found, "train", tokenizer)[0]
    names = [found.head.labels[label] if label >= 0 else "" for label in example["labels"]]
    assert names == ["", "B-X", "I-X", "I-X", "I-X", "I-X", "O", ""]
    assert example["word_mask"] == [0, 1, 0, 0, 1, 0, 1, 0]


def test_chinese_characters_are_words(chinese):
    splits = {"train": {"tokens": [list("我在北京")], "tags": [["O", "O", "B-LOC", "E-LOC"]]}}
    found = built(splits)
    example = encoded(found, "train", chinese)[0]
    assert chinese.convert_ids_to_tokens(example["input_ids"]) == ["[CLS]", *"我在北京", "[SEP]"]
    assert [found.head.labels[label] for label in example["labels"][1:-1]] == ["O", "O", "B-LOC", "E-LOC"]


@pytest.mark.parametrize("side", ["right", "left"])
def test_batches_are_padded_on_the_side_of_the_tokenizer(tokenizer, side, monkeypatch):
    monkeypatch.setattr(tokenizer, "padding_side", side)
    found = built({"train": {"tokens": [["a", "b"], ["c"]], "tags": [["B-X", "O"], ["O"]]}})
    batch = batch_of(found, encoded(found, "train", tokenizer), tokenizer)
    assert batch.targets["labels"][1].tolist() == ([-100, 0, -100, -100] if side == "right" else [-100, -100, 0, -100])
    inputs, labels = batch.inputs[""], batch.targets["labels"]
    assert inputs["word_mask"].shape == inputs["input_ids"].shape == inputs["attention_mask"].shape
    assert torch.equal(inputs["word_mask"] == 1, labels != -100)


def test_a_task_without_a_tokenizer():
    fault(lambda: encoded(built(), "train", None), "KD503", ())


def test_the_words_of_two_tokenizers_correspond(tokenizer, chinese):
    """What one of them has no token for is left out on both sides, and long sentences are cut at the same words."""
    words = [["我", "ab", "\u200b", "京", "cdef"], ["北"]]
    splits = {"train": {"tokens": words, "tags": [["B-X", "O", "O", "O", "O"], ["O"]]}}
    found = built(splits, max_length=6)
    sides = found.encode("train", [Reader(tokenizer), Reader(chinese)])
    assert len(sides[0]) == len(sides[1])
    for one, other in zip(*sides, strict=True):
        assert (one["sentence"], one["words"]) == (other["sentence"], other["words"])
        assert sum(one["word_mask"]) == sum(other["word_mask"]) == len(one["words"])
    assert [word for example in sides[0] for word in example["words"]] == [0, 1, 3, 4, 0]


# Metrics


def predicted(found, split, tokenizer, said, order=None):
    """Logits by which the words of each sentence have the tags `said`, and the batches of two."""
    rows = encoded(found, split, tokenizer)
    examples = list(rows) if order is None else [rows[row] for row in order]
    logits, batches = [], []
    for start in range(0, len(examples), 2):
        part = examples[start : start + 2]
        batch = batch_of(found, part, tokenizer)
        of = torch.zeros((*batch.targets["labels"].shape, len(found.head.labels)))
        for row, example in enumerate(part):
            spare = len(of[row]) - len(example["input_ids"]) if tokenizer.padding_side == "left" else 0
            places = [place for place, begins in enumerate(example["word_mask"]) if begins]
            for place, word in zip(places, example["words"], strict=True):
                of[row, spare + place, found.head.labels.index(said[example["sentence"]][word])] = 1
        logits.append(of)
        batches.append(batch)
    return logits, batches


def answered(found, split, tokenizer, said, order=None):
    """The metrics where the words of each sentence have the tags `said`."""
    return metrics_of(found, *predicted(found, split, tokenizer, said, order), split)


def compared(found, split, tokenizer, mine, theirs):
    """The agreement of two models that predict these tags."""
    logits, batches = predicted(found, split, tokenizer, mine)
    return agreement_of(found, logits, predicted(found, split, tokenizer, theirs)[0], batches, split)


@pytest.mark.parametrize("side", ["right", "left"])
def test_entities_are_counted_over_the_split(tokenizer, side, monkeypatch):
    monkeypatch.setattr(tokenizer, "padding_side", side)
    found = built({"train": ROWS, "test": ROWS})
    said = [["B-ORG", "B-MISC", "B-MISC", "O"], ["B-PER", "O"]]
    # right: ORG and MISC at the third word; said but wrong: MISC at the second, half of the PER
    metrics = answered(found, "test", tokenizer, said, order=[1, 0])
    assert metrics == {"f1": pytest.approx(4 / 7), "precision": 0.5, "recall": pytest.approx(2 / 3), "accuracy": 4 / 6}


def test_right_answers_have_the_best_metrics(tokenizer):
    found = built()
    metrics = answered(found, "train", tokenizer, ROWS["tags"])
    assert metrics == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "accuracy": 1.0}


def test_without_an_entity_on_either_side_f1_is_0(tokenizer):
    splits = {**sentences("B-X O"), "test": {"tokens": [["a", "b"]], "tags": [["O", "O"]]}}
    found = built(splits)
    metrics = answered(found, "test", tokenizer, [["O", "O"]])
    assert metrics == {"f1": 0.0, "precision": 0.0, "recall": 0.0, "accuracy": 1.0}


def test_a_sentence_in_several_rows_is_counted_as_one(tokenizer):
    tags = ["B-X", "I-X", "I-X", "O", "B-X"]
    splits = {"train": {"tokens": [["ab", "cd", "ef", "g", "h"]], "tags": [tags]}}
    found = built(splits, max_length=5)
    assert len(encoded(found, "train", tokenizer)) == 4
    metrics = answered(found, "train", tokenizer, [tags], order=[2, 0, 3, 1])
    assert metrics == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "accuracy": 1.0}


def test_truncated_words_are_predicted_wrongly(tokenizer):
    tags = ["B-X", "O", "O", "O", "B-X"]
    splits = {"train": {"tokens": [["ab", "cd", "ef", "g", "h"]], "tags": [tags]}}
    found = built(splits, max_length=6, long_sentences="cut")
    metrics = answered(found, "train", tokenizer, [tags])
    assert metrics == {"f1": pytest.approx(2 / 3), "precision": 1.0, "recall": 0.5, "accuracy": 0.4}


def test_plain_tags_have_an_accuracy_alone(tokenizer):
    found = built(sentences("DET NOUN", "NOUN VERB"))
    said = [["DET", "DET"], ["NOUN", "VERB"]]
    assert answered(found, "train", tokenizer, said) == {"accuracy": 0.75}


def test_rows_without_tags_are_left_out_of_the_metrics(tokenizer):
    found = built({"train": ROWS, "test": {"tokens": [["a"]]}})
    assert answered(found, "test", tokenizer, [["O"]]) == {}


def test_the_loss_is_the_cross_entropy_over_labelled_tokens():
    logits, labels = torch.randn(2, 3, 7), torch.tensor([[-100, 1, 2], [3, -100, -100]])
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    assert torch.allclose(loss_of(built(), logits, labels).value, expected)


def test_a_split_without_rows_has_an_evaluator():
    assert built().evaluator("validation").merge([]) == {}


def test_a_student_that_finds_no_entity_agrees_with_no_teacher(tokenizer):
    """Nine of ten words are outside of entities, so that most words agree."""
    tags = [["O"] * 9 + ["B-X"], ["O"] * 4 + ["B-X"] + ["O"] * 5]
    found = built({"train": {"tokens": [["a"] * 10] * 2, "tags": tags}})
    nothing = [["O"] * 10] * 2
    assert compared(found, "train", tokenizer, nothing, tags) == 0
    assert compared(found, "train", tokenizer, tags, tags) == 1
    assert compared(found, "train", tokenizer, nothing, nothing) is None


def test_models_agree_on_entities_with_the_same_words_and_type(tokenizer):
    found = built()
    teacher = [["B-ORG", "O", "B-MISC", "O"], ["B-PER", "O"]]
    student = [["B-ORG", "O", "B-PER", "O"], ["B-PER", "I-PER"]]
    assert compared(found, "train", tokenizer, student, teacher) == pytest.approx(2 * 1 / 6)


def test_models_agree_on_sentences_with_tags_or_on_all_if_none_has_any(tokenizer):
    words = {"tokens": [["a", "b"], ["c"]], "tags": [["B-PER", "O"], None]}
    found = built({"train": ROWS, "validation": words, "test": {"tokens": words["tokens"]}})
    mine, theirs = [["B-PER", "O"], ["B-PER"]], [["B-PER", "O"], ["O"]]
    assert compared(found, "validation", tokenizer, mine, theirs) == 1
    assert compared(found, "test", tokenizer, mine, theirs) == pytest.approx(2 / 3)


def test_plain_tags_agree_by_word(tokenizer):
    found = built(sentences("DET NOUN", "NOUN VERB"))
    assert found.evaluator("train").agrees_on == "words with the same tag"
    mine, theirs = [["DET", "DET"], ["NOUN", "VERB"]], [["DET", "NOUN"], ["NOUN", "VERB"]]
    assert compared(found, "train", tokenizer, mine, theirs) == 0.75


def test_calibration_is_of_the_words_with_a_tag(tokenizer):
    """Padding, further tokens of a word and sentences without tags count in none of its metrics."""
    rows = {"train": {"tokens": [["good", "very"], ["bad"]], "tags": [["N", "V"], ["V"]]}}
    found = built({**rows, "validation": {"tokens": [["good", "very"], ["bad"]], "tags": [["N", "V"], None]}})
    batch = batch_of(found, encoded(found, "validation", tokenizer), tokenizer)
    logits = torch.zeros(*batch.inputs[""]["input_ids"].shape, 2)
    logits[..., 0] = torch.tensor(3.0).log()
    metrics = all_metrics_of(found, [logits], [batch], "validation")
    assert metrics["accuracy"] == 0.5
    assert metrics["ece"] == metrics["ece_adaptive"] == pytest.approx(0.25)
    assert metrics["brier"] == pytest.approx((0.125 + 2 * 0.75**2) / 2)
    assert metrics["nll"] == pytest.approx(-(torch.tensor([0.75, 0.25]).log().mean().item()))
    assert metrics["coverage_at_95"] == 0
    evaluator = found.evaluator("validation")
    states = states_of(evaluator, [logits], [batch])
    summary = evaluator.reliability(states, states)
    assert [each for each in summary["bins"] if each] == [[2, 0.75, 0.5]]
    assert summary["asked"][-1] == [0.99, 1.0, None, 0.5]
    nothing = built({**rows, "validation": {"tokens": [["good"]], "tags": [None]}})
    batch = batch_of(nothing, encoded(nothing, "validation", tokenizer), tokenizer)
    assert all_metrics_of(nothing, [logits[:1, : batch.inputs[""]["input_ids"].shape[1]]], [batch], "validation") == {}


def test_errors_are_those_of_words_and_of_entity_types(tokenizer):
    found = built({"train": {"tokens": [["a", "b", "c"], ["d"]], "tags": [["B-PER", "I-PER", "O"], ["B-ORG"]]}})
    batch = batch_of(found, encoded(found, "train", tokenizer), tokenizer)
    names = list(found.head.labels)

    def states(*sentences):
        logits = torch.zeros(*batch.inputs[""]["input_ids"].shape, len(names))
        for row, mask, tags in zip(logits, batch.inputs[""]["word_mask"], sentences, strict=True):
            for place, tag in zip(mask.nonzero().flatten().tolist(), tags, strict=True):
                row[place, names.index(tag)] = 9
        return states_of(found.evaluator("train"), [logits], [batch])

    mine, theirs = states(["B-PER", "O", "O"], ["B-ORG"]), states(["B-PER", "I-PER", "O"], ["O"])
    analysis = found.evaluator("train").error_analysis(mine, theirs, names)
    assert (analysis["unit"], analysis["entities"]) == ("words", True)
    scores = {kind: rest for kind, *rest in analysis["classes"]}
    assert scores == {"PER": [0.0, 0.0, 0.0, 1, 1.0], "ORG": [1.0, 1.0, 1.0, 1, 0.0]}
    assert analysis["matrix"][names.index("I-PER")][names.index("O")] == 1
    assert sum(map(sum, analysis["matrix"])) == 4
    assert (analysis["compared"], analysis["differ"]) == (2, 2)
    assert [(each["row"], [answer[:3] for answer in each["answers"]]) for each in analysis["differing"]] == [
        (0, [[1, "I-PER", "O"]]), (1, [[0, "B-ORG", "B-ORG"]]),
    ]  # fmt: skip
