"""A TextBrewer configuration -> a stage of a spec, with comments on settings that differ or have no equivalent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from kdspec.textbrewer import write_matches, write_training
from kdspec.textbrewer.configuration import Configuration
from kdspec.textbrewer.files import Read
from kdspec.textbrewer.script import SEVERAL
from kdspec.textbrewer.todo import marked, marked_last
from kdspec.textbrewer.write_matches import Dialect, number, text

_ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "fp16_opt_level": "the levels are those of Apex; `precision` is torch's autocast, with weights in fp32, near O1",
        "data_parallel": "`torchrun --nproc-per-node=2 -m kdspec run` trains on several GPUs, one process each",
        "local_rank": "torchrun sets it: `torchrun --nproc-per-node=2 -m kdspec run SPEC`",
        "device": "the first GPU by default, or `kdspec run --device cuda:1`",
        "log_dir": "curves go to `tensorboard/` in the run folder if the package tensorboard is installed",
        "output_dir": "a run writes to `runs/<name>/`, or `kdspec run --output DIR`",
        "tau": "it is for several tasks: name each with `--task news=sequence_classification`",
        "callback": "`evaluate` computes the task's metrics where TextBrewer calls it",
        "batch_postprocessor": "`augment` of the task changes rows; anything else is a task of a plugin",
    }
)
"""Settings without an equivalent in a spec, and the reason."""

_CLASSES: Mapping[str, str] = MappingProxyType(
    {
        "BasicTrainer": "a stage that trains a model on labels is `distiller: {supervised: {model: teacher}}`",
        "MultiTaskDistiller": "give each of its tasks with `--task news=sequence_classification`",
        "EMDDistiller": "its strategy is `emd` of the package kdspec-emd; its `emd={...}` was not read",
    }
)


def stage(
    read: Read,
    teachers: Sequence[str],
    student: str,
    dialect: Dialect,
    first: int,
    *,
    evaluated: bool,
    tasks: Sequence[str] = (),
) -> Iterator[str]:
    """The lines of the stage `distil`.

    Args:
        read: the configuration.
        teachers: their names; several are averaged, or each has its task.
        student: its name.
        dialect: the version of TextBrewer to match.
        first: the number of the first attention layer in TextBrewer's matches.
        evaluated: whether there are validation rows.
        tasks: the names of several tasks, in the order of their teachers.
    """
    yield "  distil:"
    yield "    distiller:"
    if tasks:
        yield from _indented(_of_tasks(read, dict(zip(tasks, teachers, strict=True)), student, dialect, first), 6)
    else:
        yield from _indented(_strategy(read, teachers, student, dialect, first), 6)
    yield "    training:"
    yield from _indented(write_training.lines(read, evaluated=evaluated, several=bool(tasks)), 6)
    left = list(_left_out(read, several=bool(tasks)))
    if left:
        yield "    # What TextBrewer has and a spec has not, or has elsewhere:"
        yield from (f"    #   {line}" for line in left)


def _of_tasks(read: Read, teachers: Mapping[str, str], student: str, dialect: Dialect, first: int) -> Iterator[str]:
    """TextBrewer has one configuration for all tasks; in a spec each may have its own."""
    configuration = read.configuration
    yield "multi_task:"
    yield f"  student: {text(student)}"
    yield "  tasks: # the same settings for all, as in TextBrewer; each may have its own losses, matches and `weight`"
    for task, teacher in teachers.items():
        yield f"    {text(task)}:"
        yield f"      teacher: {text(teacher)}"
        yield from _indented(_soft(read), 6)
        yield from _indented(_hard(read), 6)
        yield from _indented(_matches(read, dialect, first), 6)
    tau = 1.0 if configuration.tau is None else configuration.tau
    yield f"  sampling: {{tau: {number(tau)}, size: batches}} # sampled by the seed; TextBrewer uses numpy's random state"


def _matches(read: Read, dialect: Dialect, first: int) -> Iterator[str]:
    found = read.configuration.intermediate_matches or []
    if not found:
        if (computed := read.unknown.get("intermediate_matches")) is not None:
            yield f"# TODO: matches: they are `{computed}` in the script; `--matches NAME` selects a list of it"
        return
    yield "# TextBrewer masks padding in these only if the student's adaptor returns `inputs_mask`; here it always does."
    if any(match.feature == "attention" for match in found):
        yield f"# Attention layers were counted from {first}; here from 0, as in transformers. Values are probabilities, not scores."
    yield "matches:"
    yield from _indented(write_matches.lines(found, dialect, first), 2)


def _strategy(read: Read, teachers: Sequence[str], student: str, dialect: Dialect, first: int) -> Iterator[str]:
    configuration = read.configuration
    several = len(teachers) > 1
    yield "multi_teacher: # the mean of their logits, then one loss" if several else "general:"
    yield f"  teachers: [{', '.join(map(text, teachers))}]" if several else f"  teacher: {text(teachers[0])}"
    yield f"  student: {text(student)}"
    yield from _indented(_soft(read), 2)
    yield from _indented(_hard(read), 2)
    if not several:
        yield from _indented(_matches(read, dialect, first), 2)
    elif configuration.intermediate_matches:
        yield "  # MultiTeacherDistiller silently ignores matches; here they would be used, each with its teacher."
        of_first = f"- {{teacher: {text(teachers[0])}, "
        for line in _matches(read, dialect, first):
            yield f"  # {line.removeprefix('# ').replace('- {', of_first, 1)}"


def _soft(read: Read) -> Iterator[str]:
    configuration = read.configuration
    yield "soft_labels:"
    loss = configuration.kd_loss_type.name
    without = {"ce": " # without T², as in TextBrewer; `kl` has the factor", "mse": " # without T², as in TextBrewer"}
    yield marked(read, f"  loss: {text(loss)}{without.get(loss, '')}", "kd_loss_type")
    yield marked(read, f"  temperature: {_temperature(configuration)}", "temperature", "temperature_scheduler")
    rule = configuration.kd_loss_weight_scheduler
    lines = _weight(configuration.kd_loss_weight, rule.name if rule else None)
    yield from marked_last(read, lines, "kd_loss_weight", "kd_loss_weight_scheduler")
    if configuration.probability_shift or "probability_shift" in read.unknown:
        yield marked(read, "  probability_shift: true", "probability_shift")


def _hard(read: Read) -> Iterator[str]:
    configuration, names = read.configuration, ("hard_label_weight", "hard_label_weight_scheduler")
    rule = configuration.hard_label_weight_scheduler
    if rule is None and configuration.hard_label_weight == 0 and not read.unknown.keys() & set(names):
        line = "hard_labels: {weight: 0} # not computed; TextBrewer adds 0 times the loss"
        yield marked(read, line, *names)
        return
    yield "hard_labels:"
    yield from marked_last(read, _weight(configuration.hard_label_weight, rule.name if rule else None), *names)


def _temperature(configuration: Configuration) -> str:
    rule, base = configuration.temperature_scheduler, number(configuration.temperature)
    if rule is None:
        return base
    gamma = "" if rule.gamma is None else f", gamma: {number(rule.gamma)}"
    written = f"{{{rule.name}: {{base: {base}, beta: {number(rule.beta)}{gamma}}}}}"
    return f"{written} # at least 0.1; TextBrewer has no bound"


def _weight(value: float, schedule: str | None) -> Iterator[str]:
    """In TextBrewer a schedule replaces the weight after the first optimizer step, so the weight applies to that step only."""
    if schedule is None:
        yield f"  weight: {number(value)}"
        return
    if value != {"linear_decay": 1, "linear_growth": 0}.get(schedule):
        yield f"  # In TextBrewer the weight is {number(value)} in the first step and the schedule's afterwards; here it is"
        yield "  # the schedule's from the start."
    if schedule in {"linear_decay", "linear_growth"} and value not in {0, 1}:
        end = "from" if schedule == "linear_decay" else "to"
        yield f"  # For a schedule that scales the weight: {{{schedule}: {{{end}: {number(value)}}}}}"
    yield f"  weight: {text(schedule)}"


def _left_out(read: Read, *, several: bool) -> Iterator[str]:
    given, configuration = read.given | read.unknown.keys() | read.script.handed.keys(), read.configuration
    for name, reason in _ELSEWHERE.items():
        if name in given and not (several and name == "tau"):
            handed = f" `{read.script.handed[name]}`" if name in read.script.handed else ""
            yield f"{'TODO: ' if handed else ''}{name}{handed}: {reason}"
    if "ckpt_steps" in given and configuration.ckpt_steps is not None and configuration.num_steps is None:
        yield f"ckpt_steps {configuration.ckpt_steps}: it is used only together with `num_steps`"
    if configuration.num_steps is not None and configuration.num_epochs is not None:
        yield f"num_epochs {number(configuration.num_epochs)}: TextBrewer uses `num_steps` if both are given"
    for name, written in read.unknown.items():
        if name not in Configuration.model_fields:
            yield f"TODO: {name}: it is `{written}` in the script"
    for name, advice in _CLASSES.items():
        if name in read.distillers and not (several and name == SEVERAL):
            yield f"{name}: {advice}"


def _indented(lines: Iterator[str], by: int) -> Iterator[str]:
    return (f"{' ' * by}{line}" for line in lines)
