"""One of TextBrewer's trainings -> a stage of a spec, with a comment on whatever has no place in it or differs."""

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
        "data_parallel": "`torchrun --nproc-per-node=2 -m kdspec run` trains on several GPUs, a process each",
        "local_rank": "torchrun tells it: `torchrun --nproc-per-node=2 -m kdspec run SPEC`",
        "device": "the first GPU is taken, or `kdspec run --device cuda:1`",
        "log_dir": "curves go to `tensorboard/` in the run's folder where the package tensorboard is installed",
        "output_dir": "a run writes to `runs/<name>/`, or `kdspec run --output DIR`",
        "tau": "it belongs to several tasks: name each with `--task news=sequence_classification`",
    }
)
"""Settings that a spec does not have, and why."""

_CLASSES: Mapping[str, str] = MappingProxyType(
    {
        "BasicTrainer": "the stage of a model that learns from labels is `distiller: {supervised: {model: teacher}}`",
        "MultiTaskDistiller": "its tasks are given with `--task news=sequence_classification`, once for each",
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
        teachers: their names; several teach by their mean, or each its task.
        student: its name.
        dialect: whose numbers.
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
        yield "    # Of TextBrewer's settings these have no place here:"
        yield from (f"    #   {line}" for line in left)


def _of_tasks(read: Read, teachers: Mapping[str, str], student: str, dialect: Dialect, first: int) -> Iterator[str]:
    """TextBrewer has one configuration for all tasks, here each may have its own."""
    configuration = read.configuration
    yield "multi_task:"
    yield f"  student: {text(student)}"
    yield "  tasks: # alike for all of them, as TextBrewer; here each may have losses, matches and a `weight` of its own"
    for task, teacher in teachers.items():
        yield f"    {text(task)}:"
        yield f"      teacher: {text(teacher)}"
        yield from _indented(_soft(configuration), 6)
        yield from _indented(_hard(configuration), 6)
        yield from _indented(_matches(configuration, dialect, first), 6)
    tau = 1.0 if configuration.tau is None else configuration.tau
    yield f"  sampling: {{tau: {number(tau)}, size: batches}} # of the seed, where TextBrewer draws from numpy's state"


def _matches(configuration: Configuration, dialect: Dialect, first: int) -> Iterator[str]:
    found = configuration.intermediate_matches or []
    if not found:
        return
    yield "# TextBrewer leaves padding out of these only where the student's adaptor returns `inputs_mask`; here it does."
    if any(match.feature == "attention" for match in found):
        yield f"# Attention was counted from {first}, here it is from 0, as in transformers; it is probabilities, not scores."
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
        yield "  # MultiTeacherDistiller passes over matches in silence; here they would count, with a teacher for each."
        of_first = f"- {{teacher: {text(teachers[0])}, "
        for line in _matches(configuration, dialect, first):
            yield f"  # {line.removeprefix('# ').replace('- {', of_first, 1)}"


def _soft(configuration: Configuration) -> Iterator[str]:
    yield "soft_labels:"
    loss = configuration.kd_loss_type.name
    without = {"ce": " # without T², as TextBrewer; `kl` has the factor", "mse": " # without T², as TextBrewer"}
    yield f"  loss: {text(loss)}{without.get(loss, '')}"
    yield f"  temperature: {_temperature(configuration)}"
    rule = configuration.kd_loss_weight_scheduler
    yield from _weight(configuration.kd_loss_weight, rule.name if rule else None)
    if configuration.probability_shift:
        yield "  probability_shift: true"


def _hard(configuration: Configuration) -> Iterator[str]:
    rule = configuration.hard_label_weight_scheduler
    if rule is None and configuration.hard_label_weight == 0:
        yield "hard_labels: {weight: 0} # not computed, where TextBrewer adds 0 times the loss"
        return
    yield "hard_labels:"
    yield from _weight(configuration.hard_label_weight, rule.name if rule else None)


def _temperature(configuration: Configuration) -> str:
    rule, base = configuration.temperature_scheduler, number(configuration.temperature)
    if rule is None:
        return base
    gamma = "" if rule.gamma is None else f", gamma: {number(rule.gamma)}"
    written = f"{{{rule.name}: {{base: {base}, beta: {number(rule.beta)}{gamma}}}}}"
    return f"{written} # never below 0.1, where TextBrewer has no bound"


def _weight(value: float, schedule: str | None) -> Iterator[str]:
    """A schedule replaces TextBrewer's weight after the first optimizer step, so its number counts in that step only."""
    if schedule is None:
        yield f"  weight: {number(value)}"
        return
    if value != {"linear_decay": 1, "linear_growth": 0}.get(schedule):
        yield f"  # In TextBrewer the weight is {number(value)} in the first step, and then what the schedule says; here it"
        yield "  # is the schedule's from the start."
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
        yield "epochs: 30 # an argument of train() there, not a setting; the published results took 30 to 60"
    yield "batch_size: 32 # that of your data loader"
    accumulate = configuration.gradient_accumulation_steps
    if accumulate > 1:
        yield f"accumulate: {accumulate} # at the end of an epoch it may be fewer; TextBrewer drops the rest of the epoch"
    if accumulate > 1 or configuration.local_rank >= 0 or configuration.data_parallel:
        yield "normalize: micro_batch # a mean of the micro-batches' means, as TextBrewer; `step` counts every row the same"
    yield "optimizer: {adamw: {lr: 1.0e-4, weight_decay: 0.01}} # the object given to train() there"
    yield "lr_schedule: constant # TextBrewer's default; its examples have {linear: {warmup: 0.1}} as `scheduler_class`"
    if configuration.max_grad_norm is None:
        yield "max_grad_norm: null # TextBrewer's default; its examples give 1, which is {value: 1, scope: student}"
    else:
        norm = number(configuration.max_grad_norm)
        yield f"max_grad_norm: {{value: {norm}, scope: student}} # TextBrewer leaves projections out; `all` has them in"
    if configuration.fp16:
        yield "precision: fp16 # or bf16, where the GPU has it"
    if "is_caching_logits" in read.given:
        yield _cache(configuration, several=several)
    yield from _times(configuration, evaluated=evaluated)


def _cache(configuration: Configuration, *, several: bool) -> str:
    if not configuration.is_caching_logits:
        return "teacher_cache: off # left out, the teacher's answers are kept where that pays; the numbers are the same"
    if configuration.intermediate_matches or several:
        why = "for several tasks" if several else "with matches"
        return f"teacher_cache: auto # all that is read of the teacher, where that pays; TextBrewer keeps nothing {why}"
    return "teacher_cache: on # on the disk, row by row, so that epochs differ; TextBrewer keeps batches, in memory"


def _times(configuration: Configuration, *, evaluated: bool) -> Iterator[str]:
    """When there are checkpoints, each of which calls TextBrewer's callback."""
    if configuration.num_steps is not None and configuration.ckpt_steps is not None:
        when = f"every_steps: {configuration.ckpt_steps}"
    else:
        often, seldom = configuration.ckpt_frequency, configuration.ckpt_epoch_frequency
        if often > 1 and seldom > 1:
            yield f"# TextBrewer has {often} checkpoints in every {seldom}th epoch and none in the others."
        when = f"every_epochs: {number(seldom if often == 1 else 1 / often)}"
    mark, rest = ("", "the best student is kept") if evaluated else ("# ", "with validation rows in the task's data")
    yield f"{mark}evaluate: {{{when}}} # in place of the callback; {rest}"
    yield f"checkpoint: {{{when}, keep: 2}} # TextBrewer keeps all, and cannot go on from them"


def _left_out(read: Read, *, several: bool) -> Iterator[str]:
    given, configuration = read.given, read.configuration
    for name, reason in _ELSEWHERE.items():
        if name in given and not (several and name == "tau"):
            yield f"{name}: {reason}"
    if "ckpt_steps" in given and configuration.ckpt_steps is not None and configuration.num_steps is None:
        yield f"ckpt_steps {configuration.ckpt_steps}: it counts only together with `num_steps`"
    if configuration.num_steps is not None and configuration.num_epochs is not None:
        yield f"num_epochs {number(configuration.num_epochs)}: TextBrewer takes `num_steps` where both are given"
    for name, written in read.unknown.items():
        yield f"{name}: the file computes it, as `{written}`"
    for name, told in _CLASSES.items():
        if name in read.distillers and not (several and name == SEVERAL):
            yield f"{name}: {told}"


def _indented(lines: Iterator[str], by: int) -> Iterator[str]:
    return (f"{' ' * by}{line}" for line in lines)
