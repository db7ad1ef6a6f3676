"""What becomes of the head in a model's files."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdspec.api.kinds.model import ModelFacts
from kdspec.data.class_match import folded
from kdspec.hf.head_rows import misnamed, named_by
from kdspec.hf.loaded_heads import Wanted, compare_head, has_head, other_kind
from kdspec.source.document import parse

SEQUENCE = "BertForSequenceClassification"


def facts(*labels, classes=None, architecture=SEQUENCE, problem=None):
    return ModelFacts(classes=classes or len(labels), labels=labels, architecture=architecture, problem=problem)


def wanted(*labels, kind="sequence_classification", **more):
    return Wanted(task="texts", kind=kind, labels=labels, **more)


def read(text):
    """The data of a line that a help tells to write."""
    return parse(text, "spec.yaml").data


def told(known, needed, *, as_loaded=True):
    """The severity and text of each fault, and whether the head is re-initialised."""
    verdict = compare_head("model", known, needed, as_loaded=as_loaded)
    return [(fault.severity, fault.message, fault.help) for fault in verdict.faults], verdict.redrawn


NAMES = st.lists(st.text("abcdefgh", min_size=1, max_size=4), min_size=2, max_size=7, unique_by=folded)
SPELLINGS = st.sampled_from([str, str.upper, str.title, "-".join, " ".join, "_".join])


@given(NAMES, st.data(), st.booleans(), st.sampled_from(["sequence_classification", "multi_label"]))
def test_the_same_classes_in_another_order_are_an_error_with_the_list_to_write(ours, data, as_loaded, kind):
    theirs = data.draw(st.permutations(ours))
    known = facts(*(data.draw(SPELLINGS)(name) for name in theirs))
    faults, redrawn = told(known, wanted(*ours, kind=kind), as_loaded=as_loaded)
    assert not redrawn
    if theirs == ours:
        assert not faults
        return
    ((severity, _, help_),) = faults
    assert severity == "error"
    written = re.fullmatch(r"write `(.*)` in task `texts`", help_)[1]
    assert told(known, wanted(*read(written)["labels"], kind=kind)) == ([], False)


@given(NAMES, NAMES, st.booleans())
def test_no_two_lists_are_paired_by_position_in_silence(theirs, ours, as_loaded):
    """Any head is the task's, or re-initialised, or something is said before anything is read of it."""
    known, needed = facts(*theirs), wanted(*ours)
    faults, redrawn = told(known, needed, as_loaded=as_loaded)
    equal = list(map(folded, theirs)) == list(map(folded, ours))
    assert bool(faults) != equal
    assert redrawn is False or not as_loaded or faults[0][0] == "error"


@given(NAMES, st.data())
def test_a_mapping_puts_any_head_in_the_order_of_the_task(ours, data):
    """Whatever the names of the files, and in whatever order the spec lists them."""
    rows = data.draw(st.permutations(range(len(ours))))
    known = data.draw(st.sampled_from([facts(*(f"x{n}" for n in rows)), facts(classes=len(ours))]))
    names = known.labels or tuple(f"LABEL_{n}" for n in rows)
    position = {name: int(name[-1]) if known.labels == () else place for place, name in enumerate(names)}
    labels = {name: ours[n] for name, n in data.draw(st.permutations(list(zip(names, rows, strict=True))))}
    assert misnamed(known, labels) is None
    verdict = compare_head("model", named_by(known, labels), wanted(*ours), as_loaded=True)
    assert not verdict.faults
    order = verdict.order or tuple(range(len(ours)))
    assert [labels[name] for row in order for name in names if position[name] == row] == ours


def test_names_that_are_none_of_the_task_are_a_warning_with_both_lists():
    (fault,), redrawn = told(facts("calm", "joy", "grief"), wanted("negative", "neutral", "positive"))
    assert not redrawn
    assert fault[0] == "warning"
    assert "none of its names is a class of the task" in fault[1]
    assert "0 `calm` = `negative`, 1 `joy` = `neutral`, 2 `grief` = `positive`" in fault[1]
    assert "`labels: {calm: negative, joy: neutral, grief: positive}`" in fault[2]


def test_numbered_names_are_a_warning_where_the_task_has_others():
    (fault,), _ = told(facts(classes=2), wanted("no", "yes"))
    assert fault[0] == "warning"
    assert "0 `LABEL_0` = `no`, 1 `LABEL_1` = `yes`" in fault[1]
    assert told(facts(classes=2), wanted("no", "yes"), as_loaded=False) == ([], False)


def test_numbered_names_are_a_note_where_the_task_has_the_same_numbers():
    (fault,), _ = told(facts(classes=3), wanted("0", "1", "2"))
    assert fault[0] == "note"
    (fault,), _ = told(facts(classes=3), wanted("2", "1", "0"))
    assert fault[0] == "warning"


def test_some_names_are_an_error_that_says_which_are_others():
    (fault,), _ = told(facts("sport", "money", "art"), wanted("art", "economy", "sport"))
    assert fault[0] == "error"
    assert "`money` is not among its classes" in fault[1]
    mapping = read(re.search(r"`(labels: .*?)`", fault[2])[1])["labels"]
    assert mapping == {"sport": "sport", "money": "economy", "art": "art"}
    known = named_by(facts("sport", "money", "art"), mapping)
    assert compare_head("model", known, wanted("art", "economy", "sport"), as_loaded=True).order == (2, 1, 0)
    notes, redrawn = told(facts("sport", "money", "art"), wanted("art", "economy", "sport"), as_loaded=False)
    assert ([note[0] for note in notes], redrawn) == (["note"], True)


def test_another_number_of_classes_is_an_error_with_both():
    known, needed = facts(*(f"feeling{n}" for n in range(28))), wanted("calm", "loud")
    (fault,), redrawn = told(known, needed)
    assert fault[:2] == ("error", "the head in the files of `model` has 28 classes, and task `texts` has 2 classes")
    assert fault[2] == "train it in an earlier stage with `distiller: {supervised: {model: model}}`"
    assert redrawn
    assert "and 16 more" in compare_head("model", known, needed, as_loaded=True).faults[0].notes[0]
    notes, redrawn = told(known, needed, as_loaded=False)
    assert ([note[0] for note in notes], redrawn) == (["note"], True)


def test_some_of_the_classes_of_a_head_are_written_with_the_others():
    known, needed = facts("Calm", "Even", "Loud"), wanted("calm", "loud")
    (fault,), _ = told(known, needed)
    assert fault[2] == "write `labels: [calm, Even, loud]` in task `texts`"
    assert told(known, wanted("calm", "Even", "loud")) == ([], False)
    (fault,), _ = told(known, wanted("calm", "loud", kind="multi_label", key="label"))
    assert "supervised" in fault[2]


@pytest.mark.parametrize(
    ("known", "needed", "task"),
    [
        (facts(classes=1), wanted("0", "1"), "regression"),
        (facts(classes=1, problem="regression"), wanted("a", "b", kind="multi_label"), "regression"),
        (facts(classes=3), wanted("score", kind="regression"), "sequence_classification"),
        (facts(classes=3, problem="multi_label_classification"), wanted("score", kind="regression"), "multi_label"),
    ],
)
def test_a_head_of_numbers_and_one_of_classes_name_the_task_that_fits(known, needed, task):
    (fault,), _ = told(known, needed)
    assert fault[0] == "error"
    assert f"is for the task `{task}`" in fault[2]


@pytest.mark.parametrize(
    ("problem", "kind", "told_task"),
    [
        ("single_label_classification", "multi_label", "sequence_classification"),
        ("multi_label_classification", "sequence_classification", "multi_label"),
        ("regression", "multi_label", "regression"),
        ("single_label_classification", "regression", "sequence_classification"),
    ],
)
def test_another_problem_is_a_warning_where_the_number_fits(problem, kind, told_task):
    known = facts("a", "b", problem=problem)
    (fault,), redrawn = told(known, wanted("a", "b", kind=kind))
    assert (fault[0], redrawn) == ("warning", False)
    assert f"`{problem}`" in fault[1]
    assert f"is for the task `{told_task}`" in fault[2]
    assert told(known, wanted("a", "b", kind=kind), as_loaded=False) == ([], False)


def test_the_name_of_a_single_number_does_not_matter():
    assert told(facts(classes=1, problem="regression"), wanted("score", kind="regression")) == ([], False)
    assert told(facts("relevance"), wanted("score", kind="regression")) == ([], False)


@pytest.mark.parametrize(
    ("architecture", "kind", "other"),
    [
        ("BertForMaskedLM", "sequence_classification", True),
        ("BertForTokenClassification", "sequence_classification", True),
        ("BertForSequenceClassification", "token_classification", True),
        ("RobertaForQuestionAnswering", "multi_label", True),
        ("GPT2LMHeadModel", "sequence_classification", True),
        ("BertForMultipleChoice", "regression", True),
        ("BertForSequenceClassification", "question_answering", True),
        ("BertForSequenceClassification", "masked_lm", True),
        ("BertForPreTraining", "masked_lm", False),
        ("BertModel", "sequence_classification", False),
        ("BertForSequenceClassification", "regression", False),
        ("OwnForSomething", "regression", False),
    ],
)
def test_a_head_of_another_kind_is_an_error_unless_it_is_trained(architecture, kind, other):
    assert other_kind(architecture, kind) is other
    labels = ("a", "b") if kind not in ("question_answering", "masked_lm") else ()
    known = facts("a", "b", architecture=architecture)
    faults, redrawn = told(known, wanted(*labels, kind=kind))
    assert redrawn is (other and bool(labels))
    if other:
        ((severity, message, help_),) = faults
        assert severity == "error"
        assert f"`{architecture}`" in message
        assert "supervised" in help_
        assert told(known, wanted(*labels, kind=kind), as_loaded=False) == ([], bool(labels))


def test_a_head_for_masked_words_may_be_one_of_several():
    assert has_head("BertForPreTraining", "masked_lm")
    assert not has_head("BertForPreTraining", "sequence_classification")


def test_where_labels_may_name_numbers_the_mapping_is_told_too():
    """A list in another order would give the numbers of the rows other names."""
    known = facts("NO", "YES")
    (fault,), _ = told(known, wanted("yes", "no", numbers=None))
    assert "`labels: [no, yes]`" in fault[2]
    mapping = read(re.search(r"`(labels: \{.*?)`", fault[2])[1])["labels"]
    verdict = compare_head("model", named_by(known, mapping), wanted("yes", "no", numbers=None), as_loaded=True)
    assert (verdict.faults, verdict.order) == ((), (1, 0))
    (fault,), _ = told(known, wanted("yes", "no", numbers=True))
    assert fault[2] == "write `labels: {NO: no, YES: yes}` in the model"


def test_numbers_of_some_of_the_classes_cannot_be_given_others():
    (fault,), _ = told(facts("NO", "MAYBE", "YES"), wanted("yes", "no", numbers=True))
    assert "labels" not in fault[2]
    (fault,), _ = told(facts("NO", "MAYBE", "YES"), wanted("yes", "no", numbers=None))
    assert fault[2].startswith("write `labels: [no, MAYBE, yes]` in task `texts`; or, if the rows have numbers")


def test_columns_are_put_in_order_by_their_own_parameter():
    (fault,), _ = told(facts("B", "A"), wanted("a", "b", kind="multi_label", key="label"))
    assert fault[2] == "write `label: [b, a]` in task `texts`"


def test_a_task_without_a_list_of_its_classes_is_told_the_mapping():
    (fault,), _ = told(facts("B", "A"), wanted("a", "b", key=None))
    assert fault[2] == "write `labels: {B: b, A: a}` in the model"


def test_the_stage_to_add_names_the_task_where_there_are_several():
    (fault,), _ = told(facts(classes=3), wanted("a", "b", several=True))
    assert fault[2].endswith("`distiller: {supervised: {model: model, task: texts}}`")


def test_nothing_is_said_where_the_files_or_the_classes_are_not_known():
    for known in (ModelFacts(), ModelFacts(architecture=""), facts("a", "b", architecture="")):
        assert told(known, wanted("x", "y")) == ([], False)
    assert told(facts("a", "b"), wanted()) == ([], False)


@pytest.mark.parametrize(
    ("labels", "at", "says"),
    [
        ({"NEG": "a"}, ("labels",), "has no name for the class `POS`"),
        ({"NEG": "a", "POSS": "b"}, ("labels", "POSS"), "the head in the files has no class `POSS`"),
    ],
)
def test_a_mapping_names_each_class_of_the_head(labels, at, says):
    found = misnamed(facts("NEG", "POS"), labels)
    assert (found.code, found.at) == ("KD317", at)
    assert says in found.message


def test_a_mapping_needs_a_head_of_classes_and_is_not_checked_before_the_files_are_known():
    found = misnamed(ModelFacts(architecture="BertForMaskedLM"), {"a": "b"})
    assert "no classes that `labels` could name" in found.message
    assert misnamed(ModelFacts(), {"a": "b"}) is None
    assert named_by(ModelFacts(), {"a": "b"}) == ModelFacts()


def test_a_mapping_to_classes_that_are_not_those_of_the_task_is_an_error():
    known = named_by(facts("NEG", "POS"), {"NEG": "bad", "POS": "god"})
    (fault,), _ = told(known, wanted("bad", "good"), as_loaded=False)
    assert fault[0] == "error"
    assert "not classes of task `texts`: `god`" in fault[1]


EMOTIONS = facts("joy", "anger", "love", "fear")
MERGING = {"joy": "good", "LOVE": "good", "anger": "bad", "fear": "bad"}


def test_classes_with_one_name_are_one_class_in_the_order_of_the_task():
    known = named_by(EMOTIONS, MERGING)
    assert (known.classes, known.labels, known.merges) == (2, ("good", "bad"), ((0, 2), (1, 3)))
    for kind in ("sequence_classification", "token_classification"):
        architecture = "BertForTokenClassification" if kind.startswith("token") else SEQUENCE
        named = named_by(facts(*EMOTIONS.labels, architecture=architecture), MERGING)
        verdict = compare_head("model", named, wanted("Bad", "good", kind=kind), as_loaded=True)
        assert (verdict.faults, verdict.order, verdict.groups) == ((), (), ((1, 3), (0, 2)))


def test_a_mapping_without_a_name_twice_merges_nothing():
    known = named_by(EMOTIONS, {"joy": "j", "anger": "a", "love": "l", "fear": "f"})
    assert not known.merges
    verdict = compare_head("model", known, wanted("a", "f", "j", "l"), as_loaded=True)
    assert (verdict.order, verdict.groups) == ((1, 3, 0, 2), ())


def test_merged_classes_that_are_not_those_of_the_task_are_an_error():
    known = named_by(EMOTIONS, MERGING)
    (fault,), _ = told(known, wanted("good", "bad", "neutral"))
    assert fault[0] == "error"
    assert "not named: `neutral`" in fault[1]
    (fault,), _ = told(known, wanted("good", "evil"))
    assert "not classes of task `texts`: `bad`" in fault[1]


def test_labels_of_which_several_may_be_right_are_not_merged():
    """The probability that one of two is right does not follow from theirs."""
    (fault,), _ = told(named_by(EMOTIONS, MERGING), wanted("good", "bad", kind="multi_label"))
    assert fault[0] == "error"
    assert "`multi_label` do not add up" in fault[1]
