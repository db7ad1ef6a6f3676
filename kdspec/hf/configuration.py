"""A transformers configuration: changed by a spec, and adapted to a task and a tokenizer."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from kdspec.api.kinds.model import InputLimits, ModelFacts
from kdspec.api.working.task import Head
from kdspec.diagnostics.diagnostic import closest
from kdspec.diagnostics.fault import Fault
from kdspec.hf import entries, families, padding
from kdspec.hf.embedding.readout import HEADS
from kdspec.hf.loading import explained
from kdspec.hf.positions import positions
from kdspec.hf.saved import remote_code

_SHAPE = ("num_hidden_layers", "hidden_size", "num_attention_heads")
_FROM_THE_TASK = ("num_labels", "id2label", "label2id", "problem_type")
_OWN_KEYS = MappingProxyType({"dtype": "dtype", "torch_dtype": "dtype", "attn_implementation": "attention"})

AUTO_CLASSES: Mapping[str | None, str] = MappingProxyType(
    {
        None: "AutoModel",
        "sequence_classification": "AutoModelForSequenceClassification",
        "multi_label": "AutoModelForSequenceClassification",
        "regression": "AutoModelForSequenceClassification",
        "token_classification": "AutoModelForTokenClassification",
        "question_answering": "AutoModelForQuestionAnswering",
        "masked_lm": "AutoModelForMaskedLM",
        "embedding": "AutoModel",
        "ranking": "AutoModelForSequenceClassification",
    }
)
"""The class of the library for each kind of head."""

PROBLEMS: Mapping[str | None, str] = MappingProxyType(
    {
        "sequence_classification": "single_label_classification",
        "multi_label": "multi_label_classification",
        "regression": "regression",
    }
)
"""The library's `problem_type` for each kind of head that has one."""

_ENTRIES = frozenset(
    {"model_type", *families.LAYER_NAMES, *families.WIDTH_NAMES, *families.HEAD_NAMES, *families.OTHER_SIZES}
    | families.ATTRIBUTES
)
_CODE = "KD503"
_MANY = 64
_SLIPS = 2
_LONG_ENOUGH = 8


def architecture(kind: str) -> str:
    """How the library's classes with this kind of head call it in their names: `SequenceClassification`."""
    known = AUTO_CLASSES.get(kind)
    if known is None:
        return "".join(word.capitalize() for word in kind.split("_"))
    return known.removeprefix("AutoModelFor")


def auto_class(kind: str | None, config: Any, at: tuple[str, ...], *, trusts_code: bool) -> Any:
    """The library's class for a kind of head and a configuration.

    Raises:
        Fault: KD503 at the place of the model's source, if the family has none.
    """
    import transformers

    auto = getattr(transformers, AUTO_CLASSES[kind])
    encoders = transformers.AutoModelForTextEncoding
    if kind in HEADS and type(config) in encoders._model_mapping:  # noqa: SLF001 - as below
        auto = encoders  # for most families the same class; of an encoder-decoder the encoder alone
    brought = trusts_code and auto.__name__ in getattr(config, "auto_map", {})
    if not brought and type(config) not in auto._model_mapping:  # noqa: SLF001 - the library tells it by no other way
        message = f"transformers has no `{auto.__name__}` of the family `{config.model_type}`"
        raise Fault(_CODE, f"{message}, which the task needs", at)
    return auto


def named(known: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes under this family's names. Unknown names are faults, since transformers silently accepts any name."""
    aliases = dict(known.attribute_map)
    names = {*known.to_dict(), *aliases, *(field.name for field in fields(known))}
    for key in changes:
        elsewhere = _elsewhere(key)
        if elsewhere is None and key not in names:
            near = closest(key, sorted(names))
            elsewhere = _unknown(key, f"a {known.model_type} configuration has no `{key}`", near)
        if elsewhere is not None:
            elsewhere.at = ("config", *elsewhere.at)
            raise elsewhere
    return {aliases.get(key, key): value for key, value in changes.items()}


def mistakes(changes: Mapping[str, Any], facts: ModelFacts) -> Iterator[Fault]:
    """Errors in the entries of a configuration that can be found without importing transformers.

    Args:
        changes: the entries.
        facts: the facts of the model with these entries.
    """
    sizes = entries.SIZES
    for key, value in changes.items():
        if (elsewhere := _elsewhere(key)) is not None:
            yield elsewhere
        elif key in sizes:
            yield from entries.not_a_size(key, value)
        elif key not in families.ATTRIBUTES and (near := _misspelt(key, sizes | families.ATTRIBUTES)):
            yield _unknown(key, f"no configuration has `{key}`", entries.of_the_family(facts.family, near) or near)
    yield from entries.not_of_the_family(facts.family, changes)
    yield from entries.out_of_range({key: value for key, value in changes.items() if key not in sizes})
    width, heads = facts.width, facts.heads
    written = [key for key in changes if key in (*families.WIDTH_NAMES, *families.HEAD_NAMES)]
    if facts.family in families.EVEN_HEADS and width is not None and heads is not None and width % heads and written:
        message = f"a width of {width} cannot be split into {heads} attention heads"
        fitting = ", ".join(str(number) for number in range(1, min(width, _MANY) + 1) if not width % number)
        help_ = f"the width must be a multiple of the number of heads: {fitting} heads fit"
        yield Fault("KD104", message, (written[-1],), help=help_)


def _elsewhere(key: str) -> Fault | None:
    """The fault of an entry that a spec sets in another place."""
    if key in _FROM_THE_TASK:
        return Fault(_CODE, f"`{key}` comes from the task", (key,), help="remove it here", key=True)
    if key in _OWN_KEYS:
        help_ = f"write `{_OWN_KEYS[key]}` beside `config`"
        return Fault(_CODE, f"`{key}` is not part of a configuration", (key,), help=help_, key=True)
    if key in remote_code.ASKING:
        return Fault(_CODE, f"`{key}` asks for code, which a spec cannot", (key,), help="remove it", key=True)
    return None


def _unknown(key: str, message: str, near: str | None) -> Fault:
    help_, fix = (f"did you mean `{near}`?", (key, near)) if near else (None, None)
    return Fault("KD101", message, (key,), help=help_, key=True, fix=fix)


def _misspelt(key: str, names: Iterable[str]) -> str | None:
    """The name of which `key` is a clear misspelling: at most two letters differ."""
    near = closest(key, sorted(names))
    if near is None or len(near) < _LONG_ENOUGH:
        return None
    blocks = difflib.SequenceMatcher(None, key, near, autojunk=False).get_matching_blocks()
    same = sum(block.size for block in blocks)
    return near if max(len(key), len(near)) - same <= _SLIPS else None


def new(changes: Mapping[str, Any], like: str = "", known: Any | None = None) -> Any:
    """The configuration of a new model.

    Args:
        changes: the entries of the spec; without `known` with a `model_type`.
        like: the name of the model of which it takes the configuration.
        known: that configuration.

    Raises:
        Fault: KD503 or KD101 at the entry that is wrong.
    """
    from transformers import AutoConfig

    changes = dict(changes)
    before: dict[str, Any] = {}
    if known is None:
        family = changes.pop("model_type")
        with explained(("config", "model_type"), f"transformers has no model type `{family}`"):
            known = AutoConfig.for_model(family)
    else:
        family = known.model_type
        if changes.pop("model_type", family) != family:
            raise Fault(_CODE, f"`{like}` is a {family} model", ("config", "model_type"))
        before = known.to_dict()
    changes = named(known, changes)
    for key in stale(known, changes):
        before.pop(key, None)
    with explained(("config",), "the configuration is not valid"):
        return type(known).from_dict({**before, **changes})


def stale(known: Any, changes: Mapping[str, Any]) -> list[str]:
    """Entries of a configuration that are derived from changed ones, or that belong to the weights."""
    layers, width, heads = (known.attribute_map.get(key, key) for key in _SHAPE)
    names = ["quantization_config"]
    if layers in changes:
        names.append("layer_types")
    of_head = getattr(known, "head_dim", None)
    derived = of_head is not None and of_head == known.hidden_size // known.num_attention_heads
    if derived and (width in changes or heads in changes):
        names.append("head_dim")
    return names


def fit(config: Any, head: Head, tokenizer: Any | None, *, trained: bool) -> None:
    """Adapt a configuration to the labels and the tokenizer; `trained` is whether weights are loaded or copied."""
    if head.labels:
        config.id2label = dict(enumerate(head.labels))
        config.label2id = {label: number for number, label in enumerate(head.labels)}
    if head.kind in PROBLEMS:
        config.problem_type = PROBLEMS[head.kind]
    if head.kind == "ranking" and config.num_labels != 1:
        config.num_labels = 1
    if tokenizer is None:
        return
    fixed = trained and config.model_type in padding.COUNTED and getattr(config, "pad_token_id", None) is not None
    if tokenizer.pad_token_id is not None and not fixed:  # a decoder's head finds the last token of a row by it
        config.pad_token_id = config.get_text_config().pad_token_id = tokenizer.pad_token_id
    vocabulary = getattr(config, "vocab_size", None) or len(tokenizer)
    # Tokens that were added are no obstacle unless a row has them, which is checked when rows are encoded.
    needed = {*tokenizer.get_vocab().values()} - {*tokenizer.get_added_vocab().values()} | {tokenizer.pad_token_id or 0}
    if max(needed) >= vocabulary:
        raise Fault(
            _CODE,
            f"the tokenizer has {len(tokenizer)} tokens, the model {vocabulary}",
            help=more_tokens(max(needed) + 1, trained=trained),
        )


def more_tokens(count: int, *, trained: bool) -> str:
    """What to do about a model with embeddings for fewer tokens than its tokenizer, or its rows, need.

    Args:
        count: the number of tokens that are needed.
        trained: whether its weights are loaded or copied.
    """
    if not trained:
        return f"write `config: {{vocab_size: {count}}}`"
    resize = f"`model.resize_token_embeddings({count})` and `model.save_pretrained(...)`"
    return f"give the model the `tokenizer` that it was trained with, or resize it in Python: {resize}"


def input_limits(config: Any) -> InputLimits:
    """The positions and the number of tokens of a model."""
    return InputLimits(positions=positions(config), vocabulary=getattr(config.get_text_config(), "vocab_size", None))


def unexpected(path: str, expected: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Fault]:
    """Faults where the configuration of `path` differs from the spec; none if it is not known yet."""
    for key, value in expected.items():
        if key in found and found[key] != value:
            # Any JSON may be named as a configuration: only what is an entry of one is told.
            theirs = found[key] if key in _ENTRIES else "another value"
            message = f"`{path}` has {theirs} as `{key}`, not {value}"
            help_ = "beside `path`, `config` must match the files; for another shape use `like` in place of `path`"
            yield Fault(_CODE, message, ("config", key), help=help_)


def completed(path: str, written: Mapping[str, Any], told: Mapping[str, Any]) -> Any:
    """The configuration of a folder that does not name its family, with what the spec gives beside `path`.

    Args:
        path: the folder, for messages.
        written: the entries in its file.
        told: those of the spec, with `model_type`.

    Raises:
        Fault: KD503 if the two differ.
    """
    from transformers import AutoConfig

    for fault in unexpected(path, told, written):
        raise fault
    changes = dict(told)
    family = changes.pop("model_type")
    with explained(("config", "model_type"), f"transformers has no model type `{family}`"):
        known = AutoConfig.for_model(family)
    changes = named(known, changes)
    with explained(("path",), f"`{path}` cannot be loaded"):
        return type(known).from_dict({**written, **changes, "model_type": family})
