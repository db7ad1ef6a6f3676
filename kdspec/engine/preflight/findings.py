"""Tells what is wrong with the rows of a task, from the facts about them."""

from __future__ import annotations

import json
from collections.abc import Iterator

from kdspec.api.plan.plan import Plan, StagePlan
from kdspec.data.ranking.score_audit import ScoreFacts, audit_findings
from kdspec.diagnostics.diagnostic import Severity, listed
from kdspec.diagnostics.finding import Finding, Mark
from kdspec.engine.preflight.chance import by_chance, worse_than_one_class
from kdspec.engine.preflight.facts import AnswerFacts, TaskFacts

_MANY_CUT = 0.25
_MANY_REPEATED = 0.05
"""Shares of the rows from which a note becomes a warning."""
_HELP = (
    "its classes may be others, or in another order; train it on these rows in a stage before, or write the order of its "
    "classes in `labels`"
)
_FEW_ROWS = 10


def of_rows(plan: Plan, facts: TaskFacts) -> Iterator[Finding]:
    """KD519 for what looks wrong in the rows of a task: warnings, and notes."""
    for check in (_too_many_classes, _without_rows, _without_tokens, _cut, _repeated):
        yield from check(plan, facts)


def of_models(plan: Plan, stage: StagePlan, facts: TaskFacts) -> Iterator[Finding]:
    """KD517 for a model whose answers depend on the batch; KD518 and KD519 for the answers of a teacher."""
    for name, found in facts.models.items():
        if found.alone is not None and found.alone.message:
            label = Mark(("models", name), "depends on the batch", key=True)
            alone = found.alone
            yield Finding("KD517", alone.message, *label, notes=alone.notes, help=alone.help or None)
        if found.answers is not None:
            counted = list(_of_answers(plan, stage, facts, name, found.answers)) if found.answers.answers else []
            yield from counted or _of_metric(name, found.answers)
        if found.scores is not None:
            yield from _of_scores(stage, facts.task, name, found.scores)


def _of_scores(stage: StagePlan, task: str, name: str, found: ScoreFacts) -> Iterator[Finding]:
    """Scores that are not finite, equal, squashed, or one-hot or flat at the temperature."""
    part = stage.tasks[task]
    use = part.needs.logits.get(name)
    for each in audit_findings(found, name, None if use is None else use.student_temperature):
        label = Mark(("models", name), "teaches", key=True)
        if each.by_temperature and use is not None:
            label = Mark((*part.at, *use.at), "the temperature")
        code = "KD501" if each.severity == "error" else "KD519"
        yield Finding(code, each.message, *label, help=each.help, severity=each.severity)


def _of_answers(plan: Plan, stage: StagePlan, facts: TaskFacts, name: str, found: AnswerFacts) -> Iterator[Finding]:
    share = f"{found.right} of {found.answers} labels of `{found.split}`"
    chance = f"guessing among {found.classes} classes {1 / found.classes:.3g}"
    often = f"the most frequent class {found.most_frequent / found.answers:.3g}"
    notes = (f"its accuracy is {found.right / found.answers:.3g}; {chance}, {often}",)
    # What is audit_findings of a teacher that this run has trained, or whose head is new, is no error: it may be meant to be weak.
    severity: Severity = "error" if facts.models[name].loaded else "warning"
    code = "KD518" if severity == "error" else "KD519"
    label = Mark(("models", name), "teaches", key=True)
    also = (Mark(stage.at, "in this stage", key=True),)
    if found.order:
        message = f"teacher `{name}` answers {found.right_in_order} of {found.answers} labels of `{found.split}` right in another order of the classes, and {found.right} as it is"
        help_ = _reorder(plan, facts, name, found)
        yield Finding(code, message, *label, also=also, notes=notes, help=help_, severity=severity)
    elif by_chance(found.right, found.answers, found.classes):
        message = f"teacher `{name}` is no better than chance: it answers {share} right"
        yield Finding(code, message, *label, also=also, notes=notes, help=_HELP, severity=severity)
    elif worse_than_one_class(found.right, found.answers, found.most_frequent):
        message = f"teacher `{name}` is worse than always answering the most frequent class: {share} are right, and that class is {found.most_frequent}"
        yield Finding("KD519", message, *label, notes=notes, severity="warning")


def _of_metric(name: str, found: AnswerFacts) -> Iterator[Finding]:
    """A metric such as F1 or a correlation is 0 or less: no answer is right, or the answers are the wrong way round."""
    value = found.metrics.get(found.primary)
    if value is None or value > 0 or not found.higher_is_better or found.rows < _FEW_ROWS:
        return
    message = (
        f"teacher `{name}` has a `{found.primary}` of {value:.3g} on {found.rows} labelled rows of `{found.split}`"
    )
    yield Finding("KD519", message, *Mark(("models", name), "teaches", key=True), severity="warning")


def _reorder(plan: Plan, facts: TaskFacts, name: str, found: AnswerFacts) -> str:
    """How to bring the classes into the order of a teacher's answers."""
    order = [facts.classes[number] if number < len(facts.classes) else str(number) for number in found.order]
    task = plan.spec.tasks[facts.task]
    own = [label.casefold() for label in plan.facts[name].labels]
    if own == [label.casefold() for label in facts.classes]:
        numbers = json.dumps([str(number) for number in found.order])
        return (
            f"if the rows have numbers, write their order in task `{facts.task}`: `labels: {numbers}`; if they have these "
            f"names, the `id2label` in the teacher's `config.json` should be {', '.join(order)}"
        )
    if "labels" not in type(task).model_fields or not facts.classes:
        return f"number the classes in the order of its logits: {', '.join(order)}"
    written = json.dumps(order, ensure_ascii=False)
    return f"if these are its classes, write their order in task `{facts.task}`: `labels: {written}`"


def _too_many_classes(plan: Plan, facts: TaskFacts) -> Iterator[Finding]:
    """A label column with about as many values as rows is seldom one of classes."""
    train = facts.splits["train"]
    used, rows = sum(map(bool, train.labels.values())), train.labelled or 0
    each_token = sum(train.labels.values()) > rows
    if each_token or rows < _FEW_ROWS or used <= rows / 2:
        return
    message = f"the {rows:,} labelled rows of `train` have {used:,} different labels"
    help_ = "name the column of the classes in `label`, if this is another one"
    yield _finding(plan, facts.task, "warning", message, "label", help_)


def _without_rows(plan: Plan, facts: TaskFacts) -> Iterator[Finding]:
    """Classes that a data set or a teacher declares; those of `labels` and of tags are the task's to tell."""
    train, task = facts.splits["train"], plan.spec.tasks[facts.task]
    written = plan.source.has(("tasks", facts.task, task.name, "labels"))
    if not train.labelled or not facts.classes or written or sum(train.labels.values()) > train.labelled:
        return
    missing = [name for name, count in train.labels.items() if not count]
    if missing:
        what = "class" if len(missing) == 1 else "classes"
        yield _finding(plan, facts.task, "warning", f"no row of `train` has the {what} {listed(missing)}", "labels")


def _without_tokens(plan: Plan, facts: TaskFacts) -> Iterator[Finding]:
    for split, found in facts.splits.items():
        for read in found.reads:
            if read.without_tokens:
                of = f"{read.without_tokens:,} of {found.encoded:,} rows of `{split}`"
                message = f"{of} have no token of their text for {_models(read.models)}"
                yield _finding(plan, facts.task, "warning", message, "text")


def _cut(plan: Plan, facts: TaskFacts) -> Iterator[Finding]:
    found = facts.splits["train"]
    for read in found.reads:
        if read.cut and read.cut > _MANY_CUT * found.encoded:
            share = f"{read.cut / found.encoded:.0%} of the rows of `train`"
            message = f"{share} are cut at {read.longest} tokens for {_models(read.models)}"
            yield _finding(plan, facts.task, "warning", message, plan.spec.tasks[facts.task].length_limit)


def _repeated(plan: Plan, facts: TaskFacts) -> Iterator[Finding]:
    for split, found in facts.splits.items():
        if found.in_train:
            severity: Severity = "warning" if found.in_train > _MANY_REPEATED * found.rows else "note"
            message = f"{found.in_train:,} of {found.rows:,} {split} texts stand in `train` as they are"
            yield _finding(plan, facts.task, severity, message, "data")


def _models(names: tuple[str, ...]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def _finding(
    plan: Plan, task: str, severity: Severity, message: str, key: str | None, help_: str | None = None
) -> Finding:
    """A finding about a parameter of a task, or about the task if that is not written."""
    at = ("tasks", task, plan.spec.tasks[task].name, *((key,) if key else ()))
    label = Mark(at) if key and plan.source.has(at) else Mark(("tasks", task), key=True)
    return Finding("KD519", message, *label, help=help_, severity=severity)
