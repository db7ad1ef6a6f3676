"""Loading with the transformers library: quiet and seeded; incomplete or mismatched weights are faults."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kdspec.api.spec.file_fields import local_folder
from kdspec.diagnostics.diagnostic import excerpt
from kdspec.diagnostics.fault import Fault
from kdspec.hf import model_files
from kdspec.hf.embedding.readout import BODY
from kdspec.hf.layer_copies import lists_of_layers
from kdspec.hf.padding import Padding

if TYPE_CHECKING:
    from torch import nn

CODE = "KD503"
"""The code of a model that cannot be made."""
_TRUST = "a spec runs no code; if you have read and trust that code, add `--trust-remote-code` to the command"


_DOWNLOADS = (
    (
        "gated repo",
        "its owner gives access to those who ask for it",
        "ask for access at https://huggingface.co/{name}, and log in with `hf auth login`",
    ),
    (
        "is not a valid git identifier",
        "the hub has no such `revision` of it",
        "write a branch, a tag or a commit of it in `revision`",
    ),
    ("No space left", "the disk of the download cache is full", "free some space, or set `HF_HOME` to another disk"),
    (
        "PermissionError",
        "the download cache cannot be written",
        "set `HF_HOME` to a folder that you may write, or change its permissions",
    ),
    (
        "couldn't connect",
        "it is no folder here, and the hub cannot be reached",
        "download it where the hub can be reached, or write a folder; {readings}",
    ),
)
"""Words in the errors of transformers about a download, what they mean, and what helps."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars and load reports of transformers; its settings are restored."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def seeded(seed: int, name: str) -> Iterator[None]:
    """Seed torch by the seed and the name alone; the random state outside is unchanged."""
    import torch

    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        yield


@contextmanager
def explained(at: tuple[str | int, ...], message: str, hub: object = None) -> Iterator[None]:
    """Turn errors of transformers about files and configurations into a fault that begins with `message`.

    `hub` is what is loaded; if it is a name and no folder, the fault of a failed download says both readings.
    """
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    known = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError)
    try:
        yield
    except (*known, SafetensorError, StrictDataclassError) as error:
        name = f"{type(error).__name__}: " if isinstance(error, (LookupError, TypeError, AttributeError)) else ""
        text = " ".join(str(error).split())
        if "trust_remote_code" in text:
            raise Fault(CODE, f"{message}: it needs to run its own code", at, help=_TRUST) from error
        if isinstance(error, OSError) and isinstance(hub, str) and not Path(hub).exists():
            why, help_ = _download(text, hub)
            raise Fault(CODE, f"{message}: {why}", at, notes=(text,), help=help_) from error
        raise Fault(CODE, f"{message}: {name}{excerpt(text, 200)}", at) from error


def bare_names(given: Mapping[str, str | None], folder: Path) -> Iterator[Fault]:
    """A note for each name that may be meant as a folder: it comes from the hub, though it has no owner."""
    for key, name in given.items():
        if name is not None and "/" not in name and local_folder(name, folder) is None:
            message = f"`{name}` is no folder here, so it comes from the hub"
            yield Fault("KD310", message, (key,), help=_folder_or_hub(name), severity="note")


def _download(text: str, name: str) -> tuple[str, str]:
    """Why a download has failed, by the message of the library, and what helps."""
    found = next((entry for entry in _DOWNLOADS if entry[0] in text), None)
    if found is None:
        return "it is no folder here, and the hub gives no model or tokenizer of this name", _folder_or_hub(name)
    _, why, help_ = found
    return why, help_.format(name=name, readings=_folder_or_hub(name))


def _folder_or_hub(name: str) -> str:
    return f"a folder has another path: `./{name}` if it is beside the spec; a name on the hub is `owner/name`"


def fast_tokenizer(
    place: Path | str,
    revision: str,
    at: tuple[str | int, ...],
    *,
    padding: Padding | None = None,
    trusts_code: bool = False,
    config: Any | None = None,
) -> Any:
    """The tokenizer of a folder or of the hub.

    Args:
        place: the folder, or the name on the hub.
        revision: branch, tag or commit on the hub.
        at: the place of a fault.
        padding: what its model asks for.
        trusts_code: whether code in its files may be run.
        config: the configuration of its model, if the one in the folder does not tell the family.
    """
    from transformers import AutoTokenizer

    if isinstance(place, Path) and config is None:
        for fault in model_files.check_tokenizer(place, at):
            raise fault
    with quiet(), explained(at, f"the tokenizer `{place}` cannot be loaded", hub=place):
        tokenizer = AutoTokenizer.from_pretrained(
            place, revision=revision, use_fast=True, trust_remote_code=trusts_code, config=config
        )
    if isinstance(place, Path):
        for fault in model_files.check_read(tokenizer, place, at):
            raise fault
    if not tokenizer.is_fast or set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        kind = "has no vocabulary" if tokenizer.is_fast else "is not a fast one"
        raise Fault(CODE, f"the tokenizer `{place}` {kind}", at, help="kdspec needs a `tokenizer.json`")
    (padding or Padding()).apply(tokenizer)
    for name in ("is_local", "local_files_only"):  # of this loading, and of no use to whoever gets the saved tokenizer
        tokenizer.init_kwargs.pop(name, None)
    return tokenizer


def refuse_weights(folder: Path, shown: str) -> None:
    """Raise the fault of a folder whose weights cannot be loaded, or that has none."""
    for fault in model_files.check_weights(folder, shown):
        raise fault
    if not any(folder.glob("*.safetensors")):
        help_ = "copy `model.safetensors` into it, or make a new model with `config` or `like` in place of `path`"
        raise Fault(CODE, "the folder has no weights, only a configuration", ("path",), help=help_)


def check(module: nn.Module, report: Mapping[str, Collection[Any]]) -> frozenset[str]:
    """Compare the loaded tensors with the model, and return the names that were randomly initialised, all of the head.

    A head or a pooler may be missing, and a head for other labels is replaced. Any other difference is a fault.
    """
    prefix = getattr(module, "base_model_prefix", "")
    inside = f"{prefix}." if prefix and hasattr(module, prefix) else ""

    def of_body(name: str) -> bool:
        return name.startswith(inside) and "pooler" not in name.split(".")

    missing = frozenset(report["missing_keys"])
    differing = {name: (list(has), list(needs)) for name, has, needs in report["mismatched_keys"]}
    own = f"{BODY}." if inside == f"{BODY}." else ""  # which is not in the files
    if absent := sorted(filter(of_body, missing)):
        message = f"the files have no `{absent[0].removeprefix(own)}`{_more(absent)}"
        raise Fault(CODE, message, ("path",), help="the weights are of another model")
    if unequal := sorted(filter(of_body, differing)):
        has, needs = differing[unequal[0]]
        message = (
            f"`{unequal[0].removeprefix(own)}` is {has} in the files, and {needs} by the configuration{_more(unequal)}"
        )
        raise Fault(CODE, message, ("path",), help="`config.json` and the weights are of different models")
    starts = tuple(name.removeprefix(inside) for name in lists_of_layers(module))
    spare = sorted(name for name in report["unexpected_keys"] if name.removeprefix(inside).startswith(starts))
    if starts and spare:
        message = f"the files have `{spare[0]}`{_more(spare)}, which the configuration does not"
        raise Fault(CODE, message, ("path",), help="`config.json` and the weights are of different models")
    return missing | frozenset(differing)


def _more(names: Collection[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def weights(auto: Any, place: str, config: Any, revision: str | None, options: Mapping[str, Any]) -> tuple[Any, Any]:
    """A model of a class of the library with the weights of a folder or the hub, and the library's loading report."""
    module, report = auto.from_pretrained(
        place,
        config=config,
        revision=revision or "main",
        use_safetensors=True,
        ignore_mismatched_sizes=True,  # for the head; `check` finds other differences in the report
        output_loading_info=True,
        **options,
    )
    return module, report


def wider(auto: Any, config: Any, options: Mapping[str, Any]) -> nn.Module:
    """A model with one class more than the configuration has, on the meta device."""
    import torch

    more = copy.deepcopy(config)
    more.num_labels = config.num_labels + 1
    with torch.device("meta"):
        return cast("nn.Module", auto.from_config(more, **options))


def save(module: nn.Module, folder: Path, own: Collection[str] | None, tokenizer: Any | None) -> None:
    """Write configuration, safetensors and tokenizer; of the tensors only those in `own`, where that is given."""
    kept = None if own is None else {name: value for name, value in module.state_dict().items() if name in own}
    with quiet():
        module.save_pretrained(str(folder), state_dict=kept)  # type: ignore[operator]  # a model of transformers, which has it
        if tokenizer is not None:
            tokenizer.save_pretrained(str(folder))
