"""A TextBrewer configuration -> a stage of a spec, with comments on settings that differ or have no equivalent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from kdspec.textbrewer import write_matches
from kdspec.textbrewer.configuration import Configuration
from kdspec.textbrewer.files import Read
from kdspec.textbrewer.python_reader import SEVERAL
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
    yield from _indented(_training(read, evaluated=evaluated, several=bool(tasks)), 6)
    left = list(_left_out(read, several=bool(tasks)))
    if left:
        yield "    # TextBrewer's settings without an equivalent:"
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
        yield from _indented(_soft(configuration), 6)
        yield from _indented(_hard(configuration), 6)
        yield from _indented(_matches(configuration, dialect, first), 6)
    tau = 1.0 if configuration.tau is None else configuration.tau
    yield f"  sampling: {{tau: {number(tau)}, size: batches}} # sampled by the seed; TextBrewer uses numpy's random state"


def _matches(configuration: Configuration, dialect: Dialect, first: int) -> Iterator[str]:
    found = configuration.intermediate_matches or []
    if not found:
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
    yield from _indented(_soft(configuration), 2)
    yield from _indented(_hard(configuration), 2)
    if not several:
        yield from _indented(_matches(configuration, dialect, first), 2)
    elif configuration.intermediate_matches:
        yield "  # MultiTeacherDistiller silently ignores matches; here they would be used, each with its teacher."
        of_first = f"- {{teacher: {text(teachers[0])}, "
        for line in _matches(configuration, dialect, first):
            yield f"  # {line.removeprefix('# ').replace('- {', of_first, 1)}"


def _soft(configuration: Configuration) -> Iterator[str]:
    yield "soft_labels:"
    loss = configuration.kd_loss_type.name
    without = {"ce": " # without T², as in TextBrewer; `kl` has the factor", "mse": " # without T², as in TextBrewer"}
    yield f"  loss: {text(loss)}{without.get(loss, '')}"
    yield f"  temperature: {_temperature(configuration)}"
    rule = configuration.kd_loss_weight_scheduler
    yield from _weight(configuration.kd_loss_weight, rule.name if rule else None)
    if configuration.probability_shift:
        yield "  probability_shift: true"


def _hard(configuration: Configuration) -> Iterator[str]:
    rule = configuration.hard_label_weight_scheduler
    if rule is None and configuration.hard_label_weight == 0:
        yield "hard_labels: {weight: 0} # not computed; TextBrewer adds 0 times the loss"
        return
    yield "hard_labels:"
    yield from _weight(configuration.hard_label_weight, rule.name if rule else None)


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


def _training(read: Read, *, evaluated: bool, several: bool) -> Iterator[str]:
    configuration = read.configuration
    if configuration.num_steps is not None:
        yield f"steps: {configuration.num_steps}"
    elif configuration.num_epochs is not None:
        yield f"epochs: {number(configuration.num_epochs)}"
    else:
        yield "epochs: 30 # an argument of train() in TextBrewer; the published results used 30 to 60"
    yield "batch_size: 32 # use that of your data loader"
    accumulate = configuration.gradient_accumulation_steps
    if accumulate > 1:
        yield f"accumulate: {accumulate} # fewer at the end of an epoch; TextBrewer drops the rest of the epoch"
    if accumulate > 1 or configuration.local_rank >= 0 or configuration.data_parallel:
        yield "normalize: micro_batch # the mean of the micro-batches' means, as in TextBrewer; `step` weights all rows equally"
    yield "optimizer: {adamw: {lr: 1.0e-4, weight_decay: 0.01}} # TextBrewer: the object passed to train(); `decay: all` if it has no groups"
    yield "lr_schedule: constant # TextBrewer's default; its examples have {linear: {warmup: 0.1}} as `scheduler_class`"
    if configuration.max_grad_norm is None:
        yield "max_grad_norm: null # TextBrewer's default; its examples give 1, which is {value: 1, scope: student}"
    else:
        norm = number(configuration.max_grad_norm)
        yield f"max_grad_norm: {{value: {norm}, scope: student}} # TextBrewer excludes projections; `all` includes them"
    if configuration.fp16:
        yield "precision: fp16 # or bf16, if the GPU supports it"
    if "is_caching_logits" in read.given:
        yield _cache(configuration, several=several)
    yield from _times(configuration, evaluated=evaluated)


def _cache(configuration: Configuration, *, several: bool) -> str:
    if not configuration.is_caching_logits:
        return "teacher_cache: off # by default teacher outputs are cached where that is faster; results are the same"
    if configuration.intermediate_matches or several:
        why = "for several tasks" if several else "with matches"
        return f"teacher_cache: auto # cached where that is faster; TextBrewer caches nothing {why}"
    return "teacher_cache: on # on disk by row, so batches differ between epochs; TextBrewer caches batches in memory"


def _times(configuration: Configuration, *, evaluated: bool) -> Iterator[str]:
    """When checkpoints are saved; TextBrewer calls its callback at each."""
    if configuration.num_steps is not None and configuration.ckpt_steps is not None:
        when = f"every_steps: {configuration.ckpt_steps}"
    else:
        often, seldom = configuration.ckpt_frequency, configuration.ckpt_epoch_frequency
        if often > 1 and seldom > 1:
            yield f"# TextBrewer has {often} checkpoints in every {seldom}th epoch and none in the others."
        when = f"every_epochs: {number(seldom if often == 1 else 1 / often)}"
    mark, rest = ("", "the best student is kept") if evaluated else ("# ", "needs validation rows in the task's data")
    yield f"{mark}evaluate: {{{when}}} # in place of the callback; {rest}"
    yield f"checkpoint: {{{when}, keep: 2}} # TextBrewer keeps all, and cannot resume from them"


def _left_out(read: Read, *, several: bool) -> Iterator[str]:
    given, configuration = read.given, read.configuration
    for name, reason in _ELSEWHERE.items():
        if name in given and not (several and name == "tau"):
            yield f"{name}: {reason}"
    if "ckpt_steps" in given and configuration.ckpt_steps is not None and configuration.num_steps is None:
        yield f"ckpt_steps {configuration.ckpt_steps}: it is used only together with `num_steps`"
    if configuration.num_steps is not None and configuration.num_epochs is not None:
        yield f"num_epochs {number(configuration.num_epochs)}: TextBrewer uses `num_steps` if both are given"
    for name, written in read.unknown.items():
        yield f"{name}: the file computes it, as `{written}`"
    for name, advice in _CLASSES.items():
        if name in read.distillers and not (several and name == SEVERAL):
            yield f"{name}: {advice}"


def _indented(lines: Iterator[str], by: int) -> Iterator[str]:
    return (f"{' ' * by}{line}" for line in lines)
