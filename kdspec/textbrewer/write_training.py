"""TextBrewer's `TrainingConfig` and the arguments of `train()` -> the `training` of a stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kdspec.textbrewer.configuration import Configuration
from kdspec.textbrewer.files import Read
from kdspec.textbrewer.script import Script, ScriptCall, ScriptValue
from kdspec.textbrewer.todo import TODO, marked
from kdspec.textbrewer.write_matches import number

_OPTIMIZERS = ("adam", "adamw", "sgd", "nadam", "radam", "adagrad", "rmsprop", "adafactor")
_DECAY = 0.01
_LR = 1e-4


def lines(read: Read, *, evaluated: bool, several: bool) -> Iterator[str]:
    """The lines of `training`.

    Args:
        read: the configuration, and what the script gives to `train()`.
        evaluated: whether there are validation rows.
        several: whether there are several tasks.
    """
    configuration = read.configuration
    if configuration.num_steps is not None or "num_steps" in read.unknown:
        yield marked(read, f"steps: {configuration.num_steps or 1000}", "num_steps")
    elif configuration.num_epochs is not None or "num_epochs" in read.unknown:
        yield marked(read, f"epochs: {number(configuration.num_epochs or 30)}", "num_epochs")
    else:
        yield f"epochs: 30 # {TODO}: an argument of train() in TextBrewer; the published results used 30 to 60"
    yield _batch_size(read.script.batch_size)
    accumulate = configuration.gradient_accumulation_steps
    if accumulate > 1 or "gradient_accumulation_steps" in read.unknown:
        line = f"accumulate: {accumulate} # fewer at the end of an epoch; TextBrewer drops the rest of the epoch"
        yield marked(read, line, "gradient_accumulation_steps")
    if accumulate > 1 or configuration.local_rank >= 0 or configuration.data_parallel:
        yield "normalize: micro_batch # the mean of the micro-batches' means, as in TextBrewer; `step` weights all rows equally"
    yield _optimizer(read.script.optimizer)
    yield _schedule(read.script)
    if "max_grad_norm" in read.unknown:
        yield marked(read, "max_grad_norm: {value: 1, scope: student}", "max_grad_norm")
    elif configuration.max_grad_norm is None:
        yield "max_grad_norm: null # TextBrewer's default; its examples give 1, which is {value: 1, scope: student}"
    else:
        norm = number(configuration.max_grad_norm)
        line = (
            f"max_grad_norm: {{value: {norm}, scope: student}} # TextBrewer excludes projections; `all` includes them"
        )
        yield marked(read, line, "max_grad_norm")
    if configuration.fp16 or "fp16" in read.unknown:
        yield marked(read, "precision: fp16 # or bf16, if the GPU supports it", "fp16")
    if "is_caching_logits" in read.unknown:
        yield marked(read, "teacher_cache: auto", "is_caching_logits")
    if "is_caching_logits" in read.given:
        yield _cache(configuration, several=several)
    yield from _times(read, evaluated=evaluated)


def _cache(configuration: Configuration, *, several: bool) -> str:
    if not configuration.is_caching_logits:
        return "teacher_cache: off # by default teacher outputs are cached where that is faster; results are the same"
    if configuration.intermediate_matches or several:
        why = "for several tasks" if several else "with matches"
        return f"teacher_cache: auto # cached where that is faster; TextBrewer caches nothing {why}"
    return "teacher_cache: on # on disk by row, so batches differ between epochs; TextBrewer caches batches in memory"


def _times(read: Read, *, evaluated: bool) -> Iterator[str]:
    """When checkpoints are saved; TextBrewer calls its callback at each."""
    configuration, names = read.configuration, ("ckpt_frequency", "ckpt_epoch_frequency", "ckpt_steps")
    if configuration.num_steps is not None and configuration.ckpt_steps is not None:
        when = f"every_steps: {configuration.ckpt_steps}"
    else:
        often, seldom = configuration.ckpt_frequency, configuration.ckpt_epoch_frequency
        if often > 1 and seldom > 1:
            yield f"# TextBrewer has {often} checkpoints in every {seldom}th epoch and none in the others."
        when = f"every_epochs: {number(seldom if often == 1 else 1 / often)}"
    mark, rest = ("", "the best student is kept") if evaluated else ("# ", "needs validation rows in the task's data")
    yield marked(read, f"{mark}evaluate: {{{when}}} # in place of the callback; {rest}", *names)
    yield f"checkpoint: {{{when}, keep: 2}} # TextBrewer keeps all, and cannot resume from them"


def _batch_size(given: ScriptValue | None) -> str:
    if given is None or type(given.value) is not int:
        computed = f", `{given.expression}`" if given is not None and given.expression else ""
        return f"batch_size: 32 # {TODO}: that of your data loader{computed}"
    return f"batch_size: {given.value}" + (f" # {given.origin}" if given.origin else "")


def _optimizer(made: ScriptCall | None) -> str:
    """The optimizer of the script; TextBrewer is given an object."""
    if made is None or made.name not in _OPTIMIZERS:
        what = "the object passed to train()" if made is None else f"the script has `{made.expression}`"
        return f"optimizer: {{adamw: {{lr: 1.0e-4, weight_decay: 0.01}}}} # {TODO}: {what}"
    usual = {"lr": _LR, "weight_decay": _DECAY}
    written = {name: given for name, given in made.settings.items() if given.expression or given.value is not None}
    parameters = [f"{name}: {_plain(given, usual.get(name))}" for name, given in written.items()]
    if not made.grouped and (decay := written.get("weight_decay")) is not None and decay.value != 0:
        parameters.append("decay: all")
    comment = "; ".join([*_origins(written), *_expressions(written)])
    return f"optimizer: {{{made.name}: {{{', '.join(parameters)}}}}}" + (f" # {comment}" if comment else "")


def _schedule(script: Script) -> str:
    made = script.schedule
    if made is None and script.trains:
        return "lr_schedule: constant # the script names no `scheduler_class`"
    if made is None:
        examples = "TextBrewer's default; its examples have {linear: {warmup: 0.1}} as `scheduler_class`"
        return f"lr_schedule: constant # {TODO}: {examples}"
    if not made.name:
        return f"lr_schedule: constant # {TODO}: the script has `{made.expression}`"
    known = {name: given for name, given in made.settings.items() if not given.expression}
    if made.name in ("linear", "constant_with_warmup") and "warmup" in made.settings:
        known.setdefault("warmup", ScriptValue(0.1))
    parameters = ", ".join(f"{name}: {_plain(given, None)}" for name, given in known.items())
    comment = "; ".join([*_origins(known), *_expressions(made.settings)])
    written = f"{{{made.name}: {{{parameters}}}}}" if parameters else made.name
    return f"lr_schedule: {written}" + (f" # {comment}" if comment else "")


def _plain(given: ScriptValue, usual: float | None) -> str:
    value = usual if given.expression else given.value
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(number(each) for each in value)}]"
    return number(value)


def _origins(settings: Mapping[str, ScriptValue]) -> Iterator[str]:
    for name, given in settings.items():
        if given.origin:
            yield f"`{name}` is {given.origin}"


def _expressions(settings: Mapping[str, ScriptValue]) -> Iterator[str]:
    for name, given in settings.items():
        if given.expression:
            yield f"{TODO}: `{name}` is `{given.expression}` in the script"
