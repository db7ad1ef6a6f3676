"""The task of giving texts vectors."""

from __future__ import annotations

import math

import datasets
import embedders
import pytest
import torch
import transformers
from pydantic import ValidationError

from kdspec import Batch, Features, Reader
from kdspec.api.kinds.context import BuildContext, TaskContext
from kdspec.api.kinds.kinds import Dataset
from kdspec.api.working.evaluator import LOSS
from kdspec.api.working.task import Head
from kdspec.builtins.tasks.embedding import Embedding
from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.forward.guarded_task import built as built_task
from kdspec.engine.run.event_log import read
from kdspec.events import CacheState, Evaluated, Note
from kdspec.planning.micro_batching import batches
from kdspec.planning.resolved import resolved
from kdspec.testing import check, run
from kdspec.testing.task_suite import check_task

ROWS = {"text": ["a film", "the plot", "good"], "zh": ["b", "c d", "e"], "de": ["f", "g", ""]}
PAIRS = {"one": ["a film", "good", "bad"], "two": ["the plot", "nice", "good"], "score": [0.0, 2.5, 5.0]}


class Rows(Dataset):
    """Splits that a test has made."""

    name = "rows"
    splits: dict

    def build(self, context):
        return datasets.DatasetDict({name: datasets.Dataset.from_dict(rows) for name, rows in self.splits.items()})

    def has_split(self, split):
        return split in self.splits

    def column_names(self, context):
        return {name: list(rows) for name, rows in self.splits.items()}


def pairs(rows=PAIRS, **more):
    splits = {"validation": rows, **more}
    return {"data": Rows(splits=splits), "text": ["one", "two"], "score": "score"}


def task(splits=None, **fields):
    splits = {"train": {"text": ROWS["text"]}} if splits is None else splits
    return Embedding(**{"data": Rows(splits=splits), "text": "text", **fields})


def built(splits=None, *, tell=None, **fields):
    return task(splits, **fields).build(TaskContext() if tell is None else TaskContext(tell=tell))


@pytest.fixture
def tokenizer(new_tokenizer):
    return transformers.AutoTokenizer.from_pretrained(new_tokenizer())


def words(rows, tokenizer):
    return [" ".join(tokenizer.convert_ids_to_tokens(row["input_ids"])[1:-1]) for row in rows]


def metrics(found, vectors, split="validation"):
    """The metrics of vectors by the text."""
    evaluator = found.evaluator(split)
    state = evaluator.add(
        Features({"embedding": torch.tensor([vectors[text] for (text,) in found.texts(split)])}),
        Batch(inputs={}, rows=range(found.rows(split))),
    )
    return evaluator.merge([state])


def test_it_has_the_properties_of_tasks(tokenizer):
    check_task(task(evaluate={"sts": pairs()}, translations=["zh"], splits={"train": ROWS}), tokenizer=tokenizer)


def test_a_row_is_a_text_without_labels(tokenizer):
    found = built({"train": {"text": ROWS["text"]}, "unlabelled": {"text": ["nice", "dull"]}})
    assert found.head == Head(kind="embedding")
    assert not found.sides
    assert (found.rows("train"), found.rows("unlabelled"), found.rows("validation")) == (3, 2, 0)
    (rows,) = found.encode("train", [Reader(tokenizer)])
    batch = found.collate(rows, Reader(tokenizer))
    assert (set(batch.inputs[""]), dict(batch.targets)) == ({"input_ids", "attention_mask", "token_type_ids"}, {})
    assert words(rows, tokenizer) == ROWS["text"]


def test_with_translations_the_student_reads_them_and_a_teacher_the_text(tokenizer):
    found = built(
        {"train": ROWS, "unlabelled": {"text": ["nice"]}}, translations=["zh", "de"], without_text="leave_out"
    )
    assert found.sides
    student, teacher = found.encode("train", [Reader(tokenizer), Reader(tokenizer, side="teacher")])
    assert words(student, tokenizer) == ["a film", "b", "f", "the plot", "c d", "g", "good", "e"]
    assert words(teacher, tokenizer) == ["a film"] * 3 + ["the plot"] * 3 + ["good"] * 2
    assert found.rows("train") == 8
    assert found.texts("train")[:2] == [("a film",), ("b",)]
    student, teacher = found.encode("unlabelled", [Reader(tokenizer), Reader(tokenizer, side="teacher")])
    assert words(student, tokenizer) == words(teacher, tokenizer) == ["nice"]


def test_each_model_reads_texts_after_its_own_prompt(tokenizer):
    found = built(
        {"train": ROWS, "validation": ROWS}, translations=["zh"], prompt="query", evaluate={"sts": pairs(PAIRS)}
    )
    asks, says = {"query": "good ", "": "bad "}, {"": "bad ", "document": "nice "}
    readers = [Reader(tokenizer, prompts=asks), Reader(tokenizer, prompts=says), Reader(tokenizer)]
    for split in ("train", "validation"):
        first, second, third = (words(rows, tokenizer)[1:] for rows in found.encode(split, readers))
        assert [f"good {text}" for text in third] == first
        assert [f"bad {text}" for text in third] == second
    assert found.uncut("train", [0], readers[0]) == [len(["[CLS]", "good", "a", "film", "[SEP]"])]
    assert task(prompt="query").prompts() == {("prompt",): "query"}


def test_what_is_evaluated_is_each_different_text_once_and_alike_for_all_models(tokenizer):
    found = built({"train": ROWS, "validation": ROWS}, translations=["zh"], evaluate={"sts": pairs(), "more": pairs()})
    assert found.texts("validation") == [
        (text,) for text in ["a film", "good", "bad", "the plot", "nice", "b", "c d", "e"]
    ]
    student, teacher = found.encode("validation", [Reader(tokenizer), Reader(tokenizer, side="teacher")])
    assert words(student, tokenizer) == words(teacher, tokenizer) == [text for (text,) in found.texts("validation")]


def test_correlations_of_pairs_with_their_scores():
    found = built(evaluate={"sts": pairs()})
    vectors = {"a film": [1.0, 0], "the plot": [0, 1.0], "good": [1.0, 0], "nice": [3.0, 4.0], "bad": [4.0, 0.0]}
    cosines, dots, scores = [0, 0.6, 1], [0, 3, 4], [0, 2.5, 5]
    assert metrics(found, vectors) == {
        "sts.spearman": pytest.approx(1),
        "sts.pearson": pytest.approx(torch.corrcoef(torch.tensor([cosines, scores], dtype=torch.float64))[0, 1].item()),
        "sts.spearman_dot": pytest.approx(1),
        "sts.pearson_dot": pytest.approx(
            torch.corrcoef(torch.tensor([dots, scores], dtype=torch.float64))[0, 1].item()
        ),
    }


def test_correlations_are_not_defined_for_equal_vectors_or_vectors_that_are_no_numbers():
    found = built(evaluate={"sts": pairs()})
    texts = [text for (text,) in found.texts("validation")]
    for value in (1.0, math.nan, math.inf):
        assert all(math.isnan(each) for each in metrics(found, {text: [value, 1.0] for text in texts}).values())


def test_a_look_at_a_few_texts_has_the_names_of_all_metrics():
    found = built({"train": ROWS, "validation": ROWS}, translations=["zh"], evaluate={"sts": pairs()})
    evaluator = found.evaluator("validation")
    state = evaluator.add(Features({"embedding": torch.ones(2, 3)}), Batch(inputs={}, rows=[0, 3]))
    expected = {f"sts.{name}" for name in ("spearman", "pearson", "spearman_dot", "pearson_dot")}
    expected |= {f"translations.zh.{name}" for name in ("accuracy", "to", "from")}
    assert evaluator.merge([state]).keys() == evaluator.merge([]).keys() == expected
    assert expected | {"spearman", "pearson", "spearman_dot", "pearson_dot"} == {
        *task({"train": ROWS}, translations=["zh"], evaluate={"sts": pairs()}).metric_names()
    }


def test_how_often_the_nearest_translation_is_the_right_one():
    rows = {"text": ["a", "b", "c", "d"], "zh": ["A", "B", "C", "D"]}
    found = built({"train": rows, "validation": rows}, translations=["zh"])
    around = {text: [math.cos(n), math.sin(n)] for n, text in enumerate("abcd")}
    around |= {text: [2 * math.cos(n + 0.1), 2 * math.sin(n + 0.1)] for n, text in enumerate("ABCD")}
    assert metrics(found, around) == {f"translations.zh.{name}": 1.0 for name in ("accuracy", "to", "from")}
    around["D"] = around["A"]  # a has two nearest translations, d has none, and D is nearest to a
    assert metrics(found, around) == {
        "translations.zh.to": pytest.approx((0.5 + 1 + 1 + 0) / 4),
        "translations.zh.from": pytest.approx(3 / 4),
        "translations.zh.accuracy": pytest.approx((2.5 + 3) / 8),
    }


def test_a_translation_of_an_equal_text_is_right_too():
    rows = {"text": ["a", "a", "b", "c"], "zh": ["A", "Z", "B", "B"]}
    found = built({"train": rows, "validation": rows}, translations=["zh"])
    at = {"a": 0.0, "A": 0.9, "Z": 0.2, "b": 2.0, "c": 2.6, "B": 2.1}
    # Z is nearest to both rows of a, and right for both; b is nearest to both rows of B.
    found = metrics(found, {text: [math.cos(angle), math.sin(angle)] for text, angle in at.items()})
    assert found == {f"translations.zh.{name}": 1.0 for name in ("accuracy", "to", "from")}


def test_a_collapsed_student_is_right_by_chance():
    rows = {"text": ["a", "b", "c", "d"], "zh": ["A", "B", "C", "D"]}
    found = built({"train": rows, "validation": rows}, translations=["zh"])
    assert metrics(found, {text: [1.0, 2.0] for text in "abcdABCD"})["translations.zh.accuracy"] == pytest.approx(0.25)


def test_the_first_set_with_validation_rows_selects_the_best_student():
    only_test = {**pairs(), "data": Rows(splits={"test": PAIRS})}
    found = built(evaluate={"other": only_test, "sts": pairs()})
    assert found.evaluator("validation").primary.name == found.evaluator("test").primary.name == "sts.spearman"
    assert built({"train": ROWS, "validation": ROWS}, translations=["zh"]).evaluator("validation").primary.name == (
        "translations.zh.accuracy"
    )
    assert built().evaluator("validation").primary == LOSS


def test_a_metric_of_the_only_set_needs_no_name_of_the_set():
    one, two = built(evaluate={"sts": pairs()}), built(evaluate={"sts": pairs(), "more": pairs()})
    assert one.evaluator("validation").metric("pearson").name == "sts.pearson"
    assert one.evaluator("validation").metric("sts.pearson").name == "sts.pearson"
    assert two.evaluator("validation").metric("pearson").name == "pearson"


def test_two_models_agree_on_the_nearest_texts():
    found = built(evaluate={"sts": pairs()})
    evaluator = found.evaluator("validation")
    torch.manual_seed(0)
    vectors = torch.randn(5, 3)
    batch = [Batch(inputs={}, rows=rows) for rows in ([0, 2, 4], [1, 3])]
    mine = [evaluator.add(Features({"embedding": vectors[list(each.rows)]}), each) for each in batch]
    theirs = [evaluator.add(Features({"embedding": 2 * vectors}), Batch(inputs={}, rows=range(5)))]
    other = [evaluator.add(Features({"embedding": torch.full((5, 3), math.nan)}), Batch(inputs={}, rows=range(5)))]
    assert evaluator.agreement(mine, theirs) == 1.0
    assert evaluator.agreement(mine, other) is None
    assert evaluator.agreement(mine, []) is None


def test_a_model_gives_one_vector_for_each_text():
    evaluator = built(evaluate={"sts": pairs()}).evaluator("validation")
    with pytest.raises(Fault, match=r"of the shape \(2, 4, 3\) for 2 texts") as caught:
        evaluator.add(Features({"embedding": torch.ones(2, 4, 3)}), Batch(inputs={}, rows=[0, 1]))
    assert caught.value.code == "KD507"


def test_scores_may_be_written_as_texts():
    vectors = {"a film": [1.0, 0], "the plot": [0, 1.0], "good": [1.0, 0], "nice": [3.0, 4.0], "bad": [4.0, 0.0]}
    found = built(evaluate={"sts": pairs({**PAIRS, "score": ["0", " 2.5", "+5e0"]})})
    assert metrics(found, vectors) == metrics(built(evaluate={"sts": pairs()}), vectors)


def test_which_splits_there_are_follows_from_sets_and_translations():
    rows = {"train": ROWS, "validation": ROWS}
    assert not task(rows).has_split("validation")
    assert task(rows, translations=["zh"]).has_split("validation")
    assert task(evaluate={"sts": pairs()}).has_split("validation")
    assert not task(evaluate={"sts": pairs()}).has_split("test")
    assert task(rows).has_split("train")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({**PAIRS, "score": [0, None, 1]}, "row 2 of `validation` has no number in `score`"),
        ({**PAIRS, "score": [0, math.nan, 1]}, "row 2 of `validation` has no number in `score`"),
        ({**PAIRS, "score": ["0", "nan", "1"]}, "row 2 of `validation` has `nan`, not a number, in `score`"),
        ({**PAIRS, "score": ["0", "1", "3,5"]}, "row 3 of `validation` has `3,5`, not a number, in `score`"),
        ({**PAIRS, "score": [True, False, True]}, "row 1 of `validation` has `True`, not a number"),
        ({**PAIRS, "score": [2, 2, 2]}, "all scores of `validation` in `score` are 2"),
    ],
)
def test_wrong_scores_are_reported_with_their_row(rows, message):
    with pytest.raises(Fault, match=message) as caught:
        built(evaluate={"sts": pairs(rows)})
    assert (caught.value.code, caught.value.at) == ("KD502", ("evaluate", "sts", "score"))
    assert "missing:" not in caught.value.help


@pytest.mark.parametrize(
    ("splits", "fields", "code", "at"),
    [
        (None, {"text": "body"}, "KD312", ("text",)),
        (None, {"translations": ["zh"]}, "KD312", ("translations", 0)),
        ({"train": ROWS}, {"translations": ["zh", "fr"]}, "KD312", ("translations", 1)),
        ({"train": ROWS}, {"translations": ["de"]}, "KD502", ("translations", 0)),
        ({"train": ROWS, "validation": {"text": ["a"]}}, {"translations": ["zh"]}, "KD312", ("translations", 0)),
        ({"train": {"text": ["a", " "]}}, {}, "KD502", ("text",)),
        (None, {"evaluate": {"sts": pairs({"one": ["a"], "score": [1]})}}, "KD312", ("evaluate", "sts", "text", 1)),
        (None, {"evaluate": {"sts": pairs({"one": ["a"], "two": ["b"]})}}, "KD312", ("evaluate", "sts", "score")),
        (
            None,
            {"evaluate": {"sts": pairs({**PAIRS, "two": ["a", None, "b"]})}},
            "KD502",
            ("evaluate", "sts", "text", 1),
        ),
        (
            None,
            {"evaluate": {"sts": pairs({**PAIRS, "two": [["a"], ["b"], ["c"]]})}},
            "KD502",
            ("evaluate", "sts", "text", 1),
        ),
    ],
)
def test_wrong_columns_and_texts_are_reported_at_their_place(splits, fields, code, at):
    with pytest.raises(Fault) as caught:
        built(splits, **fields)
    assert (caught.value.code, caught.value.at) == (code, at)
    if code == "KD312":
        (fault,) = task(splits, **fields).check(BuildContext())
        assert (fault.code, fault.at, fault.message) == (code, at, caught.value.message)


def test_a_set_without_rows_to_evaluate():
    of = {**pairs(), "data": Rows(splits={"train": PAIRS})}
    with pytest.raises(Fault, match="neither `validation` nor `test`") as caught:
        built(evaluate={"sts": of})
    assert caught.value.at == ("evaluate", "sts", "data")
    (fault,) = task(evaluate={"sts": of}).check(BuildContext())
    assert (fault.code, fault.at) == ("KD502", ("evaluate", "sts", "data"))


def test_rows_without_a_text_may_be_left_out():
    told = []
    of = pairs({**PAIRS, "two": ["a", "", "b"]})
    rows = {"train": {**ROWS, "text": ["a", "", "c"]}}
    found = built(rows, evaluate={"sts": of}, translations=["de"], without_text="leave_out", tell=told.append)
    assert found.texts("train") == [("a",), ("f",), ("c",)]
    assert found.texts("validation") == [("a film",), ("bad",), ("a",), ("b",)]
    assert [fault.at for fault in told] == [("without_text",), ("translations", 0), ("evaluate", "sts", "without_text")]
    assert "1 row of `train` without a translation in `de`" in told[1].message


def test_validation_rows_without_translations_have_no_effect():
    (fault,) = task({"train": ROWS, "validation": ROWS}).check(BuildContext())
    assert (fault.code, fault.at) == ("KD305", ("data", "rows", "validation"))


@pytest.mark.parametrize(
    "fields",
    [
        {"translations": ["text"]},
        {"translations": ["zh", "zh"]},
        {"translations": ["zh"], "evaluate": {"translations": pairs()}},
        {"evaluate": {"sts": {**pairs(), "text": ["one"]}}},
        {"evaluate": {"a/b": pairs()}},
        {"max_length": 1},
    ],
)
def test_a_value_out_of_range(fields):
    with pytest.raises(ValidationError):
        task(**fields)


def test_a_plan_measures_texts_and_translations():
    found = task({"train": ROWS}, translations=["zh"])
    assert set(found.example(BuildContext(), 2, 8)) == {"input_ids", "attention_mask", "token_type_ids"}
    assert found.without_rows().head == Head(kind="embedding")


SPEC = """\
kdspec: 1
name: vectors
tasks:
  sentences:
    embedding:
      data: {csv: {train: train.csv, validation: spoken.csv, unlabelled: [more.csv]}}
      text: sentence
      translations: [zh]
      evaluate:
        sts: {data: {csv: {validation: dev.csv, test: test.csv}}, text: [one, two], score: score}
models:
  teacher: {embedder: {folder: words}}
  student: {embedder: {folder: words, seed: 1}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student, matches: [{feature: embedding, loss: apart}]}}
    training: {epochs: 2, batch_size: 4, optimizer: {adamw: {lr: 1.0e-2}}, teacher_cache: {use: "on", folder: cache}}
"""


@pytest.fixture
def folder(tmp_path, new_tokenizer):
    """The files of the spec."""
    new_tokenizer("words")
    texts = [f"{one} {two}" for one in "abcdefg" for two in ("film", "plot", "very dull")]
    write(tmp_path / "train.csv", ["sentence", "zh"], zip(texts[:8], texts[8:16], strict=True))
    write(tmp_path / "spoken.csv", ["sentence", "zh"], zip(texts[16:19], texts[4:7], strict=True))
    write(tmp_path / "more.csv", ["sentence"], [(texts[20],), (texts[0],)])
    for name in ("dev", "test"):
        rows = [(texts[row], texts[-row - 1], row / 9) for row in range(9)]
        write(tmp_path / f"{name}.csv", ["one", "two", "score"], rows)
    return tmp_path


def write(file, columns, rows):
    file.write_text("\n".join(",".join(map(str, row)) for row in [columns, *rows]) + "\n", encoding="utf-8")


def test_a_student_learns_the_vectors_of_a_teacher(folder):
    result = run(SPEC, folder / "runs", embedders, folder=folder)
    teacher, student = result.table
    assert (teacher.role, student.role, student.split) == ("teacher", "student", "test")
    assert student.metrics.keys() == {f"sts.{name}" for name in ("spearman", "pearson", "spearman_dot", "pearson_dot")}
    assert all(math.isfinite(value) for value in student.metrics.values())
    assert 0 <= student.agreement <= 1
    assert student.agrees_on == "texts with the same nearest text"
    events = [record.event for record in read(folder / "runs" / "vectors" / "events.jsonl")]
    (cached, _) = [event for event in events if isinstance(event, CacheState)]
    assert cached.rows == 2 * 8 + 2
    assert cached.bytes == 9 * 8 * 4  # each different text once, in float32
    evaluated = [event for event in events if isinstance(event, Evaluated)]
    assert {"sts.spearman", "translations.zh.accuracy"} <= evaluated[0].metrics.keys()
    assert student.selected_by == "sts.spearman"


def test_the_best_student_may_be_selected_by_any_metric(folder):
    for written, full in (("pearson", "sts.pearson"), ("translations.zh.to", "translations.zh.to")):
        sets = [f"stages.distil.training.evaluate={{metric: {written}}}"]
        result = run(SPEC, folder / full, embedders, folder=folder, sets=sets)
        assert {row.selected_by for row in result.table} == {full, "sts.spearman"}


def test_a_metric_that_is_none_is_an_error_before_the_run(folder):
    found = check(SPEC, embedders, folder=folder, sets=["stages.distil.training.evaluate={metric: sts.sperman}"])
    assert [each.code for each in found.errors] == ["KD204"]
    assert "did you mean `sts.spearman`?" in found.errors[0].help


def test_a_spec_without_soft_and_hard_labels_has_no_such_terms(folder):
    found = check(SPEC, embedders, folder=folder)
    assert found.diagnostics == ()
    distiller = found.spec.stages["distil"].distiller
    (task,) = found.plan.stages[0].tasks.values()
    assert {feature for of in task.features.values() for feature in of} == {"embedding", "inputs_mask"}
    assert distiller.soft_labels.weight.always_zero()


def test_beside_other_tasks_it_alone_has_no_soft_labels(folder):
    write(folder / "kinds.csv", ["text", "kind"], [("a film", "x"), ("a plot", "y")])
    kinds = "tasks.kinds={sequence_classification: {data: {csv: {train: kinds.csv}}, text: text, label: kind}}"
    terms = "{kinds: {teacher: teacher}, sentences: {teacher: teacher, matches: [{feature: embedding, loss: apart}]}}"
    sets = [kinds, f"stages.distil.distiller={{multi_task: {{student: student, tasks: {terms}}}}}"]
    tasks = check(SPEC, embedders, folder=folder, sets=sets).spec.stages["distil"].distiller.tasks
    weights = {name: of.soft_labels.weight.value for name, of in tasks.items()}
    assert weights == {"kinds": 1, "sentences": 0}
    several = "stages.distil.distiller={multi_teacher: {student: student, teachers: [teacher], matches: [{feature: embedding, loss: apart}]}}"
    found = check(SPEC, embedders, folder=folder, sets=[several])
    assert found.diagnostics == ()
    assert found.spec.stages["distil"].distiller.soft_labels.weight.always_zero()


def test_wrong_rows_of_a_set_are_told_at_its_place(folder):
    at = ("tasks", "sentences", "embedding", "evaluate", "sts")
    for text, place in (("one,two,score\n", "data.csv.validation"), ("one,two,score\na,b,c\n", "score")):
        (folder / "dev.csv").write_text(text)
        planned = check(SPEC, embedders, folder=folder).plan
        with pytest.raises(FindingError) as caught:
            built_task(planned, "sentences")
        (finding,) = caught.value.findings
        assert (finding.code, ".".join(map(str, finding.at))) == ("KD502", ".".join((*at, place)))


def test_soft_labels_that_are_written_need_logits(folder):
    sets = ["stages.distil.distiller.general.soft_labels={loss: kl}"]
    found = check(SPEC, embedders, folder=folder, sets=sets)
    assert {each.code for each in found.errors} == {"KD303"}


def test_hard_labels_need_labels(folder):
    sets = ["stages.distil.distiller.general.hard_labels={weight: 1}"]
    found = check(SPEC, embedders, folder=folder, sets=sets)
    assert [each.code for each in found.errors] == ["KD312"]


def test_a_prompt_that_no_model_has_is_an_error(folder):
    at = "tasks.sentences.embedding.prompt"
    for prompt, codes in (("query", []), ("queri", ["KD204"]), ("document", ["KD204"])):
        sets = [f"{at}={prompt}", "models.teacher.embedder.prompt=query"]
        assert [each.code for each in check(SPEC, embedders, folder=folder, sets=sets).errors] == codes
    found = check(SPEC, embedders, folder=folder, sets=[f"{at}=queri", "models.teacher.embedder.prompt=query"])
    assert found.errors[0].help == "did you mean `query`?"


def test_a_model_whose_vector_depends_on_padding_is_refused(folder):
    with pytest.raises(DiagnosticError) as caught:
        run(SPEC, folder / "runs", embedders, folder=folder, sets=["models.teacher.embedder.padded=true"])
    assert [each.code for each in caught.value.diagnostics if each.severity == "error"] == ["KD517"]


def test_batches_are_split_where_losses_allow_it(folder):
    for loss, policy in (
        ("apart", "sorted_micro_batches"),
        ("similarity_kl", "sorted_micro_batches"),
        ("spread", "random"),
    ):
        sets = [f"stages.distil.distiller.general.matches=[{{feature: embedding, loss: {loss}}}]"]
        planned = check(SPEC, embedders, folder=folder, sets=sets).plan
        assert batches(planned, planned.stages[0].tasks["sentences"]).name == policy


def test_cache_and_batching_change_no_number(folder):
    found = []
    for number, sets in enumerate(
        (
            ["teacher_cache=off", "batching=random"],
            ["teacher_cache=off", "batching={tokens: 12}"],
            ["teacher_cache={use: 'on', folder: cache}", "batching={tokens: 12}", "accumulate=2", "batch_size=2"],
        )
    ):
        changes = [f"stages.distil.training.{each}" for each in ("shuffle=false", *sets)]
        result = run(SPEC, folder / str(number), embedders, folder=folder, sets=changes)
        found.append(result.table[1].metrics)
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[2] == pytest.approx(found[0], rel=1e-4)


def test_other_rows_of_a_set_are_other_content_of_a_run(folder):
    run(SPEC, folder / "runs", embedders, folder=folder)
    file = folder / "dev.csv"
    file.write_text(file.read_text().replace("film", "plot", 1))
    with pytest.raises(DiagnosticError, match="KD509"):
        run(SPEC, folder / "runs", embedders, folder=folder)


def test_the_complete_spec_of_a_plan_gives_the_same_plan(folder):
    first = check(SPEC, embedders, folder=folder)
    again = check(resolved(first.plan), embedders, folder=folder)
    assert again.diagnostics == ()
    assert again.spec == first.spec


def test_test_texts_that_stand_in_train_are_told(folder):
    run(SPEC, folder / "runs", embedders, folder=folder)
    notes = [r.event.text for r in read(folder / "runs" / "vectors" / "events.jsonl") if isinstance(r.event, Note)]
    assert any("test texts stand in `train` as they are" in note for note in notes)


def test_layers_of_translations_cannot_be_matched_token_by_token(folder):
    adaptors = "adaptors={student: {hidden: output.hidden, inputs_mask: batch.attention_mask}, teacher: {hidden: output.hidden}}"
    matches = "stages.distil.distiller.general.matches=[{feature: hidden, loss: hidden_mse, layers: {0: 0}}]"
    with pytest.raises(DiagnosticError) as caught:
        run(SPEC, folder / "runs", embedders, folder=folder, sets=[adaptors, matches])
    assert [each.code for each in caught.value.diagnostics] == ["KD402"]
