"""The readout in a folder of sentence-transformers: `modules.json` and the folders that it names, of today and of old.

Version 6 writes `pooling_mode: mean` where older ones have a flag for each kind, and keeps the limit of tokens in the
tokenizer where older ones have `max_seq_length`. Version 1 has the transformer in a folder of its own, `0_Transformer`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from kdspec.api.spec.bounds import LARGEST_WIDTH, LONGEST_ROW
from kdspec.api.spec.file_fields import local_folder
from kdspec.api.spec.model_folders import read_json
from kdspec.diagnostics.fault import Fault
from kdspec.hf.embedding.readout import CODE, DenseLayer, Pooling, Readout
from kdspec.source import read_back
from kdspec.source.read_back import Damage, Form

MODULES = "modules.json"
SETTINGS = "config_sentence_transformers.json"
_OF_TRANSFORMER = tuple(
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_AT = ("path",)
_LIBRARY = "sentence_transformers."
_KNOWN = ("Transformer", "Pooling", "Dense", "Normalize")
_POOLINGS: Mapping[str, Pooling] = MappingProxyType({"mean": "mean", "cls": "first", "lasttoken": "last", "max": "max"})
_FLAGS: Mapping[str, str] = MappingProxyType(
    {
        "pooling_mode_cls_token": "cls",
        "pooling_mode_max_tokens": "max",
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens": "weightedmean",
        "pooling_mode_lasttoken": "lasttoken",
    }
)
ACTIVATIONS = frozenset(
    {
        "ELU",
        "GELU",
        "Hardtanh",
        "LeakyReLU",
        "Mish",
        "ReLU",
        "ReLU6",
        "SELU",
        "SiLU",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Tanh",
    }
)
"""The classes of `torch.nn` that a dense layer may have, with their defaults."""
VECTOR, TOKENS = "sentence_embedding", "token_embeddings"
MULTI_VECTOR = "MultiVectorEncoder"
"""The `model_type` of a folder of late interaction: its modules work on the vectors of tokens, and nothing is pooled."""
MASK = "MultiVectorMask"


@dataclass(frozen=True)
class ListedModule:
    """One entry of `modules.json`."""

    type: str
    path: str = ""

    @property
    def kind(self) -> str:
        """Which of the known modules it is; else the whole name of its class."""
        name = self.type.rpartition(".")[2]
        return name if self.type.startswith(_LIBRARY) and name in _KNOWN else self.type


_FORM: Form[list[ListedModule]] = Form(list[ListedModule])


def model_folder(path: str, revision: str | None, spec: Path) -> Path | None:
    """The folder of a model, or its snapshot in the download cache; None if that has no `modules.json`.

    Args:
        path: the folder, or the name on the hub.
        revision: of the hub.
        spec: the folder of the spec.
    """
    folder = local_folder(path, spec)
    if folder is not None:
        return folder
    from huggingface_hub import try_to_load_from_cache

    try:
        file = try_to_load_from_cache(path, MODULES, revision=revision)
    except ValueError:  # not a name that the hub allows
        return None
    return Path(file).parent if isinstance(file, str) else None


def owner(folder: Path) -> Path | None:
    """The folder with `modules.json`: that of the model, or the one above it that names it as its transformer."""
    if (folder / MODULES).is_file():
        return folder
    above = folder.parent
    try:
        first = _modules(above)[0]
    except (Fault, FileNotFoundError, IndexError):
        return None
    return above if first.kind == "Transformer" and first.path == folder.name else None


def settings_files(folder: Path) -> tuple[Path, ...]:
    """What is read of a folder besides weights, for the identity of a run; empty for a folder of no such model."""
    found = owner(folder)
    if found is None:
        return ()
    named = [found / MODULES, found / SETTINGS, *(folder / name for name in _OF_TRANSFORMER)]
    named += [found / module.path / "config.json" for module in _known(found) if module.kind in _KNOWN[1:]]
    return tuple(file for file in named if file.is_file())


def tensor_files(folder: Path) -> tuple[Path, ...]:
    """The weights of the dense layers of a folder."""
    found = owner(folder)
    places = [] if found is None else dense_folders(found)
    return tuple(file for place in places if (file := place / "model.safetensors").is_file())


def download(name: str, revision: str | None) -> None:
    """Download what a name on the hub says of its readout, with the weights of dense layers; nothing if it is here.

    Raises:
        Fault: KD503 if the hub cannot be reached, and it is not known whether the model says anything.
    """
    from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    here = try_to_load_from_cache(name, MODULES, revision=revision)
    if isinstance(here, str) and all(
        (Path(here).parent / module.path).is_dir() for module in _known(Path(here).parent)[:2]
    ):
        return
    if here is not None and not isinstance(here, str):  # the cache knows that there is none
        return
    try:
        hf_hub_download(name, MODULES, revision=revision)
    except LocalEntryNotFoundError as error:  # which is an `EntryNotFoundError` too
        message = f"it is not known how `{name}` makes a vector of a text, and the hub cannot be reached"
        raise Fault(CODE, message, _AT, help=f"where it can be reached, `hf download {name}`") from error
    except EntryNotFoundError:
        return
    patterns = [MODULES, SETTINGS, *_OF_TRANSFORMER, "[1-9]*_*/config.json", "[1-9]*_*/model.safetensors"]
    snapshot_download(name, revision=revision, allow_patterns=patterns)


def read_readout(folder: Path) -> Readout | None:
    """The readout that a model's folder says; None for a folder of no such model.

    Raises:
        Fault: KD503 for a file that cannot be read, and for a module that is not known here.
    """
    found = owner(folder)
    if found is None:
        return None
    made = Readout()
    excludes = False
    of_tokens = read_json(found / SETTINGS).get("model_type") == MULTI_VECTOR
    modules, first = _without_mask(found) if of_tokens else _modules(found), _KNOWN[: 1 if of_tokens else 2]
    for number, module in enumerate(modules):
        if module.kind not in _KNOWN:
            message = f"`{MODULES}` has a module that kdspec does not know, `{module.type}`"
            known = ", ".join(f"`{name}`" for name in _KNOWN)
            raise Fault(CODE, message, _AT, help=f"it knows {known} of sentence-transformers")
        if (module.kind, made.normalize) == ("Dense", True) or (module.kind in _KNOWN[:2]) != (number < len(first)):
            raise _order()
        settings = _settings(found, module)
        if module.kind == "Pooling":
            made, excludes = replace(made, pooling=_pooling(module, settings)), settings.get("include_prompt") is False
        elif module.kind == "Dense":
            made = replace(made, dense=(*made.dense, _dense(found, module, settings, TOKENS if of_tokens else VECTOR)))
        elif module.kind == "Normalize":
            _of_vector(module, settings, TOKENS if of_tokens else VECTOR)
            made = replace(made, normalize=True)
    if [module.kind for module in modules[: len(first)]] != list(first):
        raise _order()
    prompts, default = _prompts(found)
    if excludes and any(prompts.values()):
        raise Fault(CODE, "its pooling leaves the tokens of the prompt out, which kdspec does not", _AT)
    return replace(made, prompts=prompts, default_prompt=default, max_length=_limit(folder))


def dense_folders(folder: Path) -> list[Path]:
    """The folders of the dense layers, in order."""
    return [folder / module.path for module in _known(folder) if module.kind == "Dense"]


def _known(folder: Path) -> list[ListedModule]:
    try:
        return _modules(folder)
    except (Fault, FileNotFoundError):
        return []


def _modules(folder: Path) -> list[ListedModule]:
    try:
        found = read_back.read(folder / MODULES, _FORM)
    except Damage as damage:
        raise _unreadable(MODULES, damage) from None
    for module in found:
        path = PurePosixPath(module.path)
        if path.is_absolute() or ".." in path.parts:
            raise Fault(CODE, f"`{MODULES}` names `{module.path}`, which is not in the folder", _AT)
    return found


def _settings(folder: Path, module: ListedModule) -> Mapping[str, Any]:
    """The configuration of a module; empty without one."""
    if module.kind == "Transformer":
        return {}
    try:
        return read_back.mapping(folder / module.path / "config.json")
    except Damage as damage:
        raise _unreadable(f"{module.path}/config.json", damage) from None
    except FileNotFoundError:
        if module.kind == "Normalize":
            return {}
        message = f"`{MODULES}` names `{module.path}`, and `{module.path}/config.json` is not there"
        raise Fault(CODE, message, _AT, help="copy or download it again") from None


def _pooling(module: ListedModule, settings: Mapping[str, Any]) -> Pooling:
    written = settings.get("pooling_mode")
    if written is None:
        written = [name for flag, name in _FLAGS.items() if settings.get(flag) is True] or "mean"
    names = written if isinstance(written, list) else [written]
    if len(names) == 1 and isinstance(names[0], str) and names[0] in _POOLINGS:
        return _POOLINGS[names[0]]
    shown = " and ".join(f"`{name}`" for name in names)
    message = (
        f"`{module.path}/config.json` pools by {shown}{' together' if len(names) > 1 else ''}, which kdspec does not"
    )
    known = ", ".join(f"`{name}`" for name in _POOLINGS)
    raise Fault(CODE, message, _AT, help=f"it knows {known}, each alone")


def _dense(folder: Path, module: ListedModule, settings: Mapping[str, Any], takes: str) -> DenseLayer:
    name = f"`{module.path}/config.json`"
    _of_vector(module, settings, takes)
    width = settings.get("out_features")
    if type(width) is not int or not 0 < width <= LARGEST_WIDTH:
        raise Fault(CODE, f"{name} has no `out_features` that is a width", _AT)
    if settings.get("use_residual") is True:
        raise Fault(CODE, f"{name} adds its input to its output (`use_residual`), which kdspec does not", _AT)
    whole = str(settings.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = whole.rpartition(".")[2]
    if not whole.startswith("torch.nn.") or activation not in {*ACTIVATIONS, "Identity"}:
        known = ", ".join(f"`{each}`" for each in sorted(ACTIVATIONS))
        raise Fault(
            CODE, f"{name} has the activation `{whole}`, which kdspec does not know", _AT, help=f"it knows {known}"
        )
    place = folder / module.path
    if not (place / "model.safetensors").is_file():
        help_ = "a pickle can run code when it is loaded; open the folder with sentence-transformers and save it again"
        raise Fault(CODE, f"`{module.path}` has no `model.safetensors`", _AT, help=help_)
    return DenseLayer(
        width=width, activation="" if activation == "Identity" else activation,
        bias=settings.get("bias") is not False, folder=place,
    )  # fmt: skip


def _of_vector(module: ListedModule, settings: Mapping[str, Any], takes: str) -> None:
    for key in ("module_input_name", "module_output_name"):
        given = settings.get(key) or (VECTOR if key == "module_input_name" else takes)
        if given != takes:
            of = "the vector of the text" if takes == VECTOR else "the vectors of its tokens"
            message = f"`{module.path}/config.json` has `{given}` as `{key}`, not {of}"
            raise Fault(CODE, message, _AT, help=f"kdspec reads folders in which each module takes `{takes}`")


def _without_mask(folder: Path) -> list[ListedModule]:
    """The modules but those that say which tokens count, which are all: a score without some of them is another one."""
    modules = _modules(folder)
    for module in (each for each in modules if each.kind == MASK):
        settings = _settings(folder, module)
        key = next((key for key in ("skiplist_words", "keep_only_token_ids") if settings.get(key)), None)
        if key is not None:
            message = f"`{module.path}/config.json` leaves tokens out of the score (`{key}`), which kdspec does not"
            raise Fault(CODE, message, _AT, help="empty it there if the model may be compared by all tokens")
    return [module for module in modules if module.kind != MASK]


def _prompts(folder: Path) -> tuple[dict[str, str], str | None]:
    settings = read_json(folder / SETTINGS)
    written, default = settings.get("prompts"), settings.get("default_prompt_name")
    pairs: Iterable[tuple[Any, Any]] = written.items() if isinstance(written, dict) else ()
    prompts = {str(name): text for name, text in pairs if isinstance(text, str)}
    return prompts, default if isinstance(default, str) and default in prompts else None


def _limit(folder: Path) -> int | None:
    """The limit of tokens in a file of old; today the tokenizer has it."""
    limits = (read_json(folder / name).get("max_seq_length") for name in _OF_TRANSFORMER)
    return next((number for number in limits if type(number) is int and 1 < number <= LONGEST_ROW), None)


def _order() -> Fault:
    message = f"`{MODULES}` has its modules in an order that kdspec does not know"
    return Fault(
        CODE, message, _AT, help="a transformer and a pooling, then any dense layers, and then any normalisation"
    )


def _unreadable(name: str, damage: Damage) -> Fault:
    reason = str(damage).removeprefix("it ")
    return Fault(
        CODE, f"`{name}` {reason}", _AT, help="correct the file, or copy it again from where the model is from"
    )
