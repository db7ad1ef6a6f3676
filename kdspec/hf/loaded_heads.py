"""Whether the head in a model's files is that of the task: its kind, its number of classes, their names and their order.

One rule for every task and every model: classes are matched by name or by a written mapping. A head that a stage trains may
be re-initialised; one whose predictions are read as it was loaded may not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from kdspec.api.kinds.kinds import Dataset
from kdspec.api.kinds.model import ModelFacts
from kdspec.api.kinds.parts import fields, parts
from kdspec.data import class_match
from kdspec.data.class_match import ClassMatch, line, mapping_line, scalar, shown
from kdspec.diagnostics.diagnostic import closest, listed
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import Finding, Mark, of_fault
from kdspec.hf.configuration import PROBLEMS, architecture
from kdspec.hf.embedding.readout import HEADS

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan
    from kdspec.api.working.task import Head

CODE = "KD317"
"""The code of a loaded head with other classes than the task."""

_KINDS = re.compile(
    r"For(SequenceClassification|TokenClassification|QuestionAnswering|MaskedLM|CausalLM|MultipleChoice|"
    r"NextSentencePrediction|ConditionalGeneration|PreTraining)$|(LMHead|DoubleHeads)Model$"
)
_FEW = 50
_EXCLUSIVE = frozenset({"sequence_classification", "token_classification"})
_OF_CLASSES = frozenset({"sequence_classification", "multi_label", "token_classification", "regression"})
_READS = MappingProxyType(
    {
        "single_label_classification": "classes of which one is right",
        "multi_label_classification": "labels of which any number may be right",
        "regression": "numbers",
    }
)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The head that a task needs, and how its spec names the classes."""

    task: str
    kind: str | None
    labels: tuple[str, ...] = ()
    """In the order of the logits; empty if they are not known yet."""
    key: str | None = "labels"
    """The parameter of the task that orders them: `labels`, or `label` where they are columns; None without any."""
    numbers: bool | None = False
    """Whether the rows have numbers that the written names stand for, so that another order would give them other names; None:
    they have not been read."""
    several: bool = False
    """Whether the spec has other tasks too, so that a strategy must name this one."""
    reads: str = ""
    """How the model reads the texts of a row (`Reader.form`), where its task ranks candidates."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What becomes of a loaded head."""

    faults: tuple[Fault, ...] = ()
    redrawn: bool = False
    """Whether its weights are re-initialised, although their shapes may fit."""
    order: tuple[int, ...] = ()
    """For each class of the task the row of the head with its weights, if the rows must be put in order."""
    groups: tuple[tuple[int, ...], ...] = ()
    """For each class of the task the rows of the head whose probabilities add up to its own, if classes are merged."""
    required: str | None = None
    """If its predictions are read as it was loaded, what helps where the weights are not in the files after all."""

    @property
    def error(self) -> Fault | None:
        """The fault that forbids to use the model, if there is one."""
        return next((fault for fault in self.faults if fault.severity == "error"), None)


def compare_head(model: str, known: ModelFacts, wanted: Wanted, *, as_loaded: bool) -> Verdict:
    """Compare the head in a model's files with that of a task.

    Args:
        model: the name of the model.
        known: the facts of its files.
        wanted: the head of the task.
        as_loaded: whether its predictions are read before a stage has trained it.
    """
    readout = wanted.kind in HEADS or (wanted.kind == "ranking" and wanted.reads != "pair")
    if not known.architecture or wanted.kind is None or readout:  # a readout needs no more than the body
        return Verdict()
    if wanted.kind == "ranking":
        return _of_pairs(model, known, wanted, as_loaded=as_loaded)
    if other_kind(known.architecture, wanted.kind):
        fault = _of_another_kind(model, known, wanted)
        return Verdict(faults=(fault,) if as_loaded else (), redrawn=wanted.kind in _OF_CLASSES)
    required = _train(model, wanted) if as_loaded and has_head(known.architecture, wanted.kind) else None
    if wanted.kind not in _OF_CLASSES or known.classes is None or not wanted.labels:
        return Verdict(required=required)
    found = class_match.match(known.labels or class_match.numbered(known.classes), wanted.labels)
    if known.by_name:
        verdict = _mapped(model, found, known, wanted)
    elif len(found.theirs) != len(found.ours):
        fault = _of_another_number(model, found, known, wanted, as_loaded=as_loaded)
        verdict = Verdict(faults=(fault,), redrawn=True)
    else:
        verdict = _named(model, found, wanted, as_loaded=as_loaded)
    if not as_loaded or verdict.error is not None:
        return verdict
    problem = _of_another_problem(model, known, wanted)
    return replace(verdict, faults=(*verdict.faults, *([problem] if problem else [])), required=required)


def findings(plan: Plan, heads: Mapping[str, Head]) -> Iterator[Finding]:
    """What is wrong, or worth knowing, of the loaded heads of a plan's models.

    Args:
        plan: the plan.
        heads: the heads that tasks need; without labels where these are not known yet.
    """
    as_loaded = plan.read_as_loaded
    yield from _trained_merged(plan)
    parts = [task for stage in plan.stages for task in stage.tasks.values()]
    for model, task in dict.fromkeys((model, part.task) for part in parts for model in part.models):
        if task in heads:
            reads = plan.spec.models[model].form(plan.context(model))
            needed = replace(wanted(plan, task, heads[task]), reads=reads)
            verdict = compare_head(model, plan.facts[model], needed, as_loaded=(model, task) in as_loaded)
            for fault in verdict.faults:
                found = of_fault(fault, ("models", model, plan.spec.models[model].name))
                yield replace(found, also=(Mark(("tasks", task), "its task", key=True),))


def wanted(plan: Plan, task: str, head: Head) -> Wanted:
    """The head that a task of a plan needs."""
    values = dict(fields(plan.spec.tasks[task]))
    columns = values.get("label")
    key = "labels" if "labels" in values else None
    if isinstance(columns, list) and len(columns) > 1:
        key = "label"
    named = key == "labels" and values["labels"] is not None
    return Wanted(
        task=task, kind=head.kind, labels=head.labels, key=key, several=len(plan.spec.tasks) > 1,
        numbers=_are_numbers(plan, task, head) if named else False,
    )  # fmt: skip


def _are_numbers(plan: Plan, task: str, head: Head) -> bool | None:
    """Whether the first rows have numbers where the spec has names; None if they cannot be read cheaply."""
    component = plan.spec.tasks[task]
    values = dict(fields(component))
    column = next((values[key] for key in ("label", "tags") if key in values), None)
    column = column[0] if isinstance(column, list) else column
    data = next((part for part in parts(component) if isinstance(part, Dataset)), None)
    if data is None or not isinstance(column, str) or all(map(class_match.is_number, head.labels)):
        return False
    try:
        rows = data.first(plan.context(""), _FEW)
    except Fault:  # the check of the task reports it
        return None
    if rows is None:
        return None
    found = [value for row in rows.get(column, ()) for value in (row if isinstance(row, list) else [row])]
    known = [str(value) for value in found if value is not None and value != ""]
    return all(map(class_match.is_number, known)) if known else None


def has_head(class_: str, kind: str) -> bool:
    """Whether a class of the library has a head of the kind that a task needs."""
    if kind == "masked_lm" and class_.endswith("ForPreTraining"):
        return True  # it has one for masked words too, or else the weights tell
    return architecture(kind).casefold() in class_.casefold()


def other_kind(class_: str, kind: str) -> bool:
    """Whether a class of the library has a head of another kind than a task needs; a body alone has none."""
    return _KINDS.search(class_) is not None and not has_head(class_, kind)


def _named(model: str, found: ClassMatch, wanted: Wanted, *, as_loaded: bool) -> Verdict:
    """Of as many classes as the task: the same ones, some of them, or none."""
    if found.relation == "same" or (wanted.kind == "regression" and len(found.ours) == 1):
        return Verdict()
    if found.relation == "order":
        return Verdict(faults=(_in_another_order(model, found, wanted),))
    if found.relation == "some":
        if as_loaded:
            return Verdict(faults=(_of_other_classes(model, found, wanted),))
        return Verdict(faults=(_drawn_anew(model, found, wanted),), redrawn=True)
    if as_loaded:
        return Verdict(faults=(_by_position(model, found, wanted),))
    if _unnamed(found) or all(class_match.is_number(name) for name in found.ours):
        return Verdict()  # it is trained, and nothing says that its classes are others
    return Verdict(faults=(_drawn_anew(model, found, wanted),), redrawn=True)


def _mapped(model: str, found: ClassMatch, known: ModelFacts, wanted: Wanted) -> Verdict:
    if known.merges and wanted.kind not in _EXCLUSIVE:
        message = (
            f"`labels` of `{model}` gives classes one name, and the probabilities of `{wanted.kind}` do not add up"
        )
        help_ = "give each class of the head its own name; classes are merged where one of them is right"
        return Verdict(faults=(Fault(CODE, message, ("labels",), help=help_),))
    if found.relation in ("same", "order"):
        order = tuple(number for number in found.order if number is not None)
        if known.merges:
            return Verdict(groups=tuple(known.merges[number] for number in order))
        return Verdict(order=order if found.relation == "order" else ())
    wrong = [name for name in found.unknown if name]
    what = f"not classes of task `{wanted.task}`: {listed(wrong)}" if wrong else f"not named: {listed(found.lacking)}"
    message = f"`labels` of `{model}` must name all classes of task `{wanted.task}` and no others; {what}"
    notes = (f"task `{wanted.task}`: {listed(found.ours)}",)
    return Verdict(faults=(Fault(CODE, message, ("labels",), notes=notes),))


def _trained_merged(plan: Plan) -> Iterator[Finding]:
    """The students whose heads have merged classes: these have no weights that could be trained and saved."""
    for stage in plan.stages:
        model = stage.student
        if plan.facts[model].merges:
            message = f"`labels` of `{model}` merges classes of its head, and stage `{stage.name}` trains `{model}`"
            at = ("models", model, plan.spec.models[model].name, "labels")
            also = (Mark(("stages", stage.name), "trains it", key=True),)
            help_ = "merge the classes of a teacher only; without `labels` the head of a student is re-initialised"
            yield Finding(CODE, message, at, also=also, help=help_)


def _of_pairs(model: str, known: ModelFacts, wanted: Wanted, *, as_loaded: bool) -> Verdict:
    """A cross-encoder has a head of one number."""
    same = known.architecture is not None and has_head(known.architecture, "ranking")
    if same and known.classes in (1, None):
        return Verdict(required=_train(model, wanted) if as_loaded else None)
    if not as_loaded:
        return Verdict(redrawn=True)
    what = f"have one with {known.classes} classes" if same else f"are of a `{known.architecture}`, which has none"
    message = f"`{model}` reads pairs, for which it needs a head with one number; its files {what}"
    help_ = f"name a cross-encoder, or {_train(model, wanted)}; a bi-encoder, `reads: each`, needs no head"
    return Verdict(faults=(Fault(CODE, message, ("path",), help=help_),))


def _of_another_kind(model: str, known: ModelFacts, wanted: Wanted) -> Fault:
    message = f"the files of `{model}` are of a `{known.architecture}`, not of a model for `{wanted.kind}`"
    return Fault(CODE, message, ("path",), help=_train(model, wanted))


def _of_another_number(model: str, found: ClassMatch, known: ModelFacts, wanted: Wanted, *, as_loaded: bool) -> Fault:
    if not as_loaded:
        return _drawn_anew(model, found, wanted)
    numbers = wanted.kind == "regression"
    has, needs = (
        _count(len(found.theirs), numbers=known.problem == "regression"),
        _count(len(found.ours), numbers=numbers),
    )
    message = f"the head in the files of `{model}` has {has}, and task `{wanted.task}` has {needs}"
    notes = [f"the head: {listed(found.theirs)}", f"task `{wanted.task}`: {listed(found.ours)}"]
    if found.lacking and found.relation != "none":
        notes.append(f"not among those of the head: {listed(found.lacking)}")
    if found.relation == "more" and wanted.key == "labels" and not wanted.numbers:
        help_ = f"write `{line('labels', found.in_their_order())}` in task `{wanted.task}`"
        if wanted.numbers is None:
            help_ += f"; or, if the rows have numbers in place of the names, {_train(model, wanted)}"
    elif len(found.theirs) == 1:
        help_ = f"a head with one number is for the task `regression`; for classes, {_train(model, wanted)}"
    elif numbers:
        task = "multi_label" if known.problem == "multi_label_classification" else "sequence_classification"
        help_ = f"a head of classes is for the task `{task}`; for numbers, {_train(model, wanted)}"
    else:
        help_ = _train(model, wanted)
    return Fault(CODE, message, ("path",), notes=tuple(notes), help=help_)


def _in_another_order(model: str, found: ClassMatch, wanted: Wanted) -> Fault:
    message = f"the head in the files of `{model}` has the classes of task `{wanted.task}` in another order: {listed(found.theirs)}"
    notes = (f"task `{wanted.task}`: {listed(found.ours)}",)
    mapping = f"`{mapping_line('labels', found.mapping())}` in the model"
    if wanted.key is None or wanted.numbers:
        help_ = f"write {mapping}"
    else:
        help_ = f"write `{line(wanted.key, found.in_their_order())}` in task `{wanted.task}`"
        if wanted.numbers is None:
            help_ += f"; or, if the rows have numbers in place of the names, {mapping}"
    return Fault(CODE, message, ("path",), notes=notes, help=help_)


def _of_other_classes(model: str, found: ClassMatch, wanted: Wanted) -> Fault:
    message = (
        f"the head in the files of `{model}` has other classes than task `{wanted.task}`: {listed(found.unknown)} "
        f"{'is' if len(found.unknown) == 1 else 'are'} not among its classes"
    )
    notes = (f"not among those of the head: {listed(found.lacking)}", f"by position: {found.by_position()}")
    theirs = {name.casefold(): name for name in found.unknown}
    slips = [(name, near) for name in found.lacking if (near := closest(name.casefold(), theirs))] if wanted.key else []
    meant = ", ".join(f"{shown(theirs[near])} in place of {shown(name)}" for name, near in slips[:4])
    asked = f"did you mean {meant}? " if slips else ""
    help_ = (
        f"{asked}if they have other names only, say which is which with `{mapping_line('labels', found.mapping())}` in the model; "
        f"else {_train(model, wanted)}"
    )
    return Fault(CODE, message, ("path",), notes=notes, help=help_)


def _by_position(model: str, found: ClassMatch, wanted: Wanted) -> Fault:
    unnamed = _unnamed(found)
    why = "its files have no names for them" if unnamed else "none of its names is a class of the task"
    message = (
        f"the classes of `{model}` are paired with those of task `{wanted.task}` by their position, since {why}: "
        f"{found.by_position()}"
    )
    help_ = (
        f"say which is which with `{mapping_line('labels', found.mapping())}` in the model, corrected where it is wrong"
    )
    numbers = unnamed and found.ours == tuple(map(str, range(len(found.ours))))  # most likely what it was trained on
    return Fault(CODE, message, ("path",), help=help_, severity="note" if numbers else "warning")


def _unnamed(found: ClassMatch) -> bool:
    return found.theirs == class_match.numbered(len(found.theirs))


def _of_another_problem(model: str, known: ModelFacts, wanted: Wanted) -> Fault | None:
    needed = PROBLEMS.get(wanted.kind)
    if known.problem is None or needed is None or known.problem == needed:
        return None
    message = (
        f"the head in the files of `{model}` was trained for {_READS.get(known.problem, 'another problem')} "
        f"(`{known.problem}`), and task `{wanted.task}` reads its logits as {_READS[needed]}"
    )
    fitting = next((kind for kind, problem in PROBLEMS.items() if problem == known.problem), None)
    help_ = (
        f"{_train(model, wanted)}"
        if fitting is None
        else f"such a head is for the task `{fitting}`; else {_train(model, wanted)}"
    )
    return Fault(CODE, message, ("path",), help=help_, severity="warning")


def _drawn_anew(model: str, found: ClassMatch, wanted: Wanted) -> Fault:
    message = (
        f"the head of `{model}` is re-initialised: that in its files has other classes than task `{wanted.task}`, "
        f"{listed(found.theirs)}"
    )
    return Fault(CODE, message, ("path",), severity="note")


def _count(number: int, *, numbers: bool) -> str:
    word = ("number" if number == 1 else "numbers") if numbers else ("class" if number == 1 else "classes")
    return f"{number} {word}"


def _train(model: str, wanted: Wanted) -> str:
    task = f", task: {scalar(wanted.task)}" if wanted.several else ""
    return f"train it in an earlier stage with `distiller: {{supervised: {{model: {scalar(model)}{task}}}}}`"
