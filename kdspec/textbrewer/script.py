"""What a training script gives to a distiller of TextBrewer: its models, its optimizer and its schedule. Nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from kdspec.source.nodes import ScalarNode
from kdspec.textbrewer.python_source import NotLiteral, PythonSource, callee

SEVERAL = "MultiTaskDistiller"
AVERAGED = "MultiTeacherDistiller"
DISTILLERS = (
    *("BasicTrainer", "BasicDistiller", "GeneralDistiller", AVERAGED),
    *(SEVERAL, "EMDDistiller"),
)
HANDED = ("callback", "batch_postprocessor", "scheduler_class", "scheduler_args", "scheduler", "optimizer")
"""Arguments of `train()` that are objects."""

_TEACHER, _STUDENT = 2, 3
"""The positions of a distiller's arguments with the models."""
_SCHEDULES: Mapping[str, str] = MappingProxyType(
    {
        "get_constant_schedule": "constant",
        "get_constant_schedule_with_warmup": "constant_with_warmup",
        "get_linear_schedule_with_warmup": "linear",
        "get_cosine_schedule_with_warmup": "cosine",
        "get_cosine_with_hard_restarts_schedule_with_warmup": "cosine_with_restarts",
        "get_polynomial_decay_schedule_with_warmup": "polynomial",
        "get_inverse_sqrt_schedule": "inverse_sqrt",
        "ExponentialLR": "exponential",
        "StepLR": "step",
        "ConstantLRSchedule": "constant",
        "WarmupConstantSchedule": "constant_with_warmup",
        "WarmupLinearSchedule": "linear",
        "WarmupCosineSchedule": "cosine",
    }
)
"""Schedules of transformers, of its first releases and of torch, and their names in a spec."""
_ARGUMENTS: Mapping[str, str] = MappingProxyType(
    {
        "num_warmup_steps": "warmup",
        "warmup_steps": "warmup",
        "num_cycles": "cycles",
        "power": "power",
        "lr_end": "end",
        "gamma": "gamma",
        "step_size": "every",
    }
)
"""Arguments of these, and the parameters of a spec."""
_OF_LENGTH = ("num_training_steps", "t_total", "last_epoch", "optimizer")
"""Arguments that the engine knows itself."""
_SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
_OF_OPTIMIZERS = ("lr", "weight_decay", "betas", "eps", "momentum", "nesterov", "alpha")
_LR_OF_TORCH = 1e-3


@dataclass(frozen=True)
class ScriptValue:
    """A value of a script: known, or else the expression that computes it."""

    value: Any = None
    expression: str = ""
    """Not empty: the value is known only when the script is run."""
    origin: str = ""
    """Where a known value is from, if the script does not write it at its place: `the default of --lr`."""


@dataclass(frozen=True)
class ScriptCall:
    """An object that a script makes: the class or function, and what it is given."""

    name: str
    """In lower case for an optimizer; as in a spec for a schedule; empty if it is not known."""
    settings: Mapping[str, ScriptValue] = field(default_factory=lambda: MappingProxyType({}))
    expression: str = ""
    """The expression in the script."""
    grouped: bool = False
    """For an optimizer: whether some parameters do not decay."""


@dataclass
class Script:
    """What the calls of a distiller and of its `train()` are given."""

    teachers: tuple[ScriptValue, ...] = ()
    """Folder or hub name of each teacher."""
    student: ScriptValue | None = None
    """Folder or hub name of the student."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """The sizes of its configuration that the script writes."""
    optimizer: ScriptCall | None = None
    schedule: ScriptCall | None = None
    batch_size: ScriptValue | None = None
    """That of the data loader."""
    trains: bool = False
    """Whether `train()` is called."""
    handed: dict[str, str] = field(default_factory=dict)
    """Other objects that `train()` is given, and their expressions."""


def teachers_of(call: ast.Call) -> ast.expr | None:
    """The expression with the teachers of a distiller."""
    return _argument(call, "model_T", _TEACHER)


def read_script(python: PythonSource) -> Script:
    """The first distiller of a file, and its call of `train`."""
    script = Script()
    calls = [node for node in python.nodes if isinstance(node, ast.Call)]
    distiller = next((call for call in calls if callee(call) in DISTILLERS and callee(call) != "BasicTrainer"), None)
    if distiller is not None:
        script.teachers = tuple(_teachers(python, teachers_of(distiller)))
        student = _argument(distiller, "model_S", _STUDENT)
        script.student = None if student is None else _path(python, student, {})
        script.sizes = {} if student is None else _sizes(python, student)
    train = next((call for call in calls if _is_train(call)), None)
    if train is not None:
        script.trains = True
        given = {keyword.arg: keyword.value for keyword in train.keywords if keyword.arg in HANDED}
        optimizer = given.get("optimizer") or (train.args[0] if train.args else None)
        script.optimizer = None if optimizer is None else _optimizer(python, optimizer)
        script.schedule = _schedule(python, given)
        script.batch_size = _batch_size(python, train)
        script.handed = {
            name: python.shown(given[name])
            for name in ("callback", "batch_postprocessor")
            if name in given and not _is_none(given[name])
        }
    return script


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _batch_size(python: PythonSource, train: ast.Call) -> ScriptValue | None:
    """The `batch_size` of the data loader that `train()` is given."""
    named = next((keyword.value for keyword in train.keywords if keyword.arg == "dataloader"), None)
    for node in [named] if named is not None else train.args[1:]:
        loader = python.resolved(node)
        if isinstance(loader, ast.Call) and callee(loader) == "DataLoader":
            size = _argument(loader, "batch_size", 1)
            return ScriptValue(1, origin="the default of its class") if size is None else _value(python, size)
    return None


def _is_train(call: ast.Call) -> bool:
    """Whether it trains a distiller: `model.train()` has no arguments."""
    return isinstance(call.func, ast.Attribute) and call.func.attr == "train" and bool(call.args or call.keywords)


def _argument(call: ast.Call, name: str, position: int) -> ast.expr | None:
    given = next((keyword.value for keyword in call.keywords if keyword.arg == name), None)
    return given or next(iter(call.args[position : position + 1]), None)


def _teachers(python: PythonSource, node: ast.expr | None) -> Iterator[ScriptValue]:
    """A model, or each of a list, of a table, of a comprehension, or of a list that a loop fills."""
    if node is None:
        return
    whole = python.resolved(node)
    match whole:
        case ast.List(elts=[]) | ast.Call(func=ast.Name(id="list"), args=[]) if isinstance(node, ast.Name):
            yield from _appended(python, node)
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Dict(values=items):
            yield from (_path(python, item, {}) for item in items)
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
            yield from (_path(python, keyword.value, {}) for keyword in keywords)
        case ast.ListComp(elt=item, generators=[ast.comprehension(target=ast.Name(id=name), iter=over, ifs=[])]):
            yield from _each(python, item, name, over)
        case _:
            yield _path(python, node, {})


def _appended(python: PythonSource, filled: ast.Name) -> Iterator[ScriptValue]:
    """The models that are appended to a list, in loops over literals or one by one."""
    inside: set[int] = set()
    for node in python.nodes:
        if isinstance(node, ast.For) and isinstance(node.target, ast.Name):
            for call in ast.walk(node):
                if (item := _append_to(call, filled.id)) is not None:
                    inside.add(id(call))
                    yield from _each(python, item, node.target.id, node.iter)
    for node in python.nodes:
        item = _append_to(node, filled.id)
        if item is not None and id(node) not in inside:
            yield _path(python, item, {})


def _append_to(node: ast.AST, name: str) -> ast.expr | None:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr="append"), args=[item]) if owner == name:
            return item
    return None


def _each(python: PythonSource, item: ast.expr, name: str, over: ast.expr) -> Iterator[ScriptValue]:
    whole = python.resolved(over)
    if isinstance(whole, ast.List | ast.Tuple):
        yield from (_path(python, item, {name: value}) for value in whole.elts)
    else:
        yield ScriptValue(expression=python.shown(item))


def _path(python: PythonSource, node: ast.expr, names: Mapping[str, ast.expr]) -> ScriptValue:
    """What `from_pretrained` is given; `names` are those of a loop."""
    model = python.resolved(node)
    if isinstance(model, ast.Name) and model.id in names:
        model = python.resolved(names[model.id])
    if isinstance(model, ast.Call) and callee(model) == "from_pretrained":
        place = _argument(model, "pretrained_model_name_or_path", 0)
        if isinstance(place, ast.Name) and place.id in names:
            place = names[place.id]
        if place is not None:
            found = _value(python, place)
            if found.expression or isinstance(found.value, str):
                return found
    return ScriptValue(expression=python.shown(model if not isinstance(model, ast.Name) else node))


def _sizes(python: PythonSource, student: ast.expr) -> dict[str, int]:
    """The sizes in the configuration of a model: arguments of it, and attributes that are set afterwards."""
    model = python.resolved(student)
    given = [*model.args, *(keyword.value for keyword in model.keywords)] if isinstance(model, ast.Call) else []
    made = [(node, python.resolved(node)) for node in given]
    node, config = next(
        ((node, call) for node, call in made if isinstance(call, ast.Call) and _is_config(call)), (None, None)
    )
    if config is None:
        return {}
    written = {str(keyword.arg): [keyword.value] for keyword in config.keywords}
    afterwards: dict[str, list[ast.expr]] = {}
    variable = node.id if isinstance(node, ast.Name) else None
    for each in python.nodes:
        match each:
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id=name), attr=key)], value=value) if (
                name == variable
            ):
                afterwards.setdefault(key, []).append(value)
    found = {
        name: _value(python, values[0]).value for name, values in (written | afterwards).items() if len(values) == 1
    }
    return {name: found[name] for name in _SIZES if type(found.get(name)) is int}


def _is_config(call: ast.Call) -> bool:
    """Whether it makes a configuration: `BertConfig(...)`, `AutoConfig.from_pretrained(...)`."""
    owner = call.func.value if isinstance(call.func, ast.Attribute) else call.func
    name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
    return name.endswith("Config")


def _value(python: PythonSource, node: ast.expr) -> ScriptValue:
    python.options_read.clear()
    try:
        found = python.literal(node)
    except NotLiteral as stop:
        return ScriptValue(expression=python.shown(stop.node))
    options = ", ".join(dict.fromkeys(python.options_read))
    origin = f"the default of {options}" if options else ""
    if isinstance(found, ScalarNode):
        return ScriptValue(found.value, origin=origin)
    try:
        return ScriptValue(ast.literal_eval(node), origin=origin)
    except ValueError:
        return ScriptValue(expression=python.shown(node))


def _optimizer(python: PythonSource, node: ast.expr) -> ScriptCall:
    made = python.resolved(node)
    expression = python.shown(made)
    if not isinstance(made, ast.Call):
        return ScriptCall("", expression=expression)
    given = {keyword.arg: keyword.value for keyword in made.keywords if keyword.arg in _OF_OPTIMIZERS}
    if len(made.args) > 1:
        given.setdefault("lr", made.args[1])
    settings = {name: _value(python, value) for name, value in given.items()}
    groups = _argument(made, "params", 0)
    decays = list(_decays(python, groups)) if groups is not None else []
    if decays:
        largest = [decay for decay in decays if decay.expression or decay.value]
        settings["weight_decay"] = largest[0] if largest else ScriptValue(0.0)
    elif "weight_decay" not in settings:
        settings["weight_decay"] = ScriptValue(_default_decay(python, callee(made)), origin="the default of its class")
    settings.setdefault("lr", ScriptValue(_LR_OF_TORCH, origin="the default of its class"))
    return ScriptCall(callee(made).lower(), settings, expression, grouped=any(d.value == 0 for d in decays))


def _decays(python: PythonSource, groups: ast.expr) -> Iterator[ScriptValue]:
    """The `weight_decay` of each group of parameters."""
    whole = python.resolved(groups)
    for group in whole.elts if isinstance(whole, ast.List) else ():
        if isinstance(group, ast.Dict):
            for key, value in zip(group.keys, group.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "weight_decay":
                    yield _value(python, value)


def _default_decay(python: PythonSource, name: str) -> float:
    """Of AdamW: 0.01 in torch, 0 in transformers, which had one until its fifth release."""
    if name != "AdamW":
        return 0.0
    imports = [node for node in python.nodes if isinstance(node, ast.ImportFrom)]
    other = any(each.name == name for node in imports if "transformers" in (node.module or "") for each in node.names)
    return 0.0 if other else 0.01


def _schedule(python: PythonSource, given: Mapping[str, ast.expr]) -> ScriptCall | None:
    """The schedule of `scheduler_class` and `scheduler_args`, or of the object `scheduler`."""
    maker = given.get("scheduler_class")
    arguments: Sequence[tuple[str, ast.expr]] = ()
    unread = ""
    if maker is not None:
        name = maker.attr if isinstance(maker, ast.Attribute) else getattr(python.resolved(maker), "id", "")
        expression = python.shown(maker)
        table = given.get("scheduler_args")
        whole = None if table is None else python.resolved(table)
        if isinstance(whole, ast.Dict):
            arguments = [
                (str(key.value), value)
                for key, value in zip(whole.keys, whole.values, strict=True)
                if isinstance(key, ast.Constant)
            ]
        elif table is not None:
            unread = python.shown(table)
    elif "scheduler" in given:
        made = python.resolved(given["scheduler"])
        expression = python.shown(made)
        if _is_none(made):
            return None
        if not isinstance(made, ast.Call):
            return ScriptCall("", expression=expression)
        name = callee(made)
        arguments = [(keyword.arg, keyword.value) for keyword in made.keywords if keyword.arg]
    else:
        return None
    settings = {_ARGUMENTS[key]: _length(python, value) for key, value in arguments if key in _ARGUMENTS}
    settings |= {
        key: ScriptValue(expression=python.shown(value))
        for key, value in arguments
        if key not in _ARGUMENTS and key not in _OF_LENGTH
    }
    if unread:
        settings["scheduler_args"] = ScriptValue(expression=unread)
    return ScriptCall(_SCHEDULES.get(name, ""), settings, expression)


def _length(python: PythonSource, node: ast.expr) -> ScriptValue:
    """A number, or a part of all steps: `int(0.1 * num_training_steps)`."""
    found = _value(python, node)
    if not found.expression:
        return found
    whole = python.resolved(node)
    if isinstance(whole, ast.Call) and callee(whole) in ("int", "round", "ceil") and len(whole.args) == 1:
        whole = python.resolved(whole.args[0])
    if isinstance(whole, ast.BinOp) and isinstance(whole.op, ast.Mult):
        factors = [_value(python, side) for side in (whole.left, whole.right)]
        shares = [each for each in factors if isinstance(each.value, float) and 0 < each.value < 1]
        others = [each for each in factors if each.expression]
        if len(shares) == len(others) == 1:
            return ScriptValue(shares[0].value, origin=f"`{python.shown(python.resolved(node))}`")
    return found
