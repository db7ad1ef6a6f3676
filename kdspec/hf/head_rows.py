"""The rows of a loaded head: named by a mapping of the spec, put into the task's order, merged, or re-initialised."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from kdspec.api.kinds.model import ModelContext, ModelFacts
from kdspec.data import class_match
from kdspec.data.class_match import shown
from kdspec.diagnostics.diagnostic import closest, listed
from kdspec.diagnostics.fault import Fault
from kdspec.hf import families
from kdspec.hf.configuration import architecture
from kdspec.hf.loaded_heads import CODE, Verdict, Wanted, compare_head

if TYPE_CHECKING:
    from torch import nn


def named_by(known: ModelFacts, labels: Mapping[str, str]) -> ModelFacts:
    """The facts with the task's names for the classes of the head, from the mapping of a spec; without classes if it has a fault.

    Classes with one name are merged.

    Args:
        known: the facts of the files.
        labels: the name in the task for each class of the head; empty without a mapping.
    """
    if not labels or known.classes is None:
        return known
    if misnamed(known, labels) is not None:
        return replace(known, classes=None, labels=())
    names = class_match.renamed(_theirs(known), labels)
    once = tuple(dict.fromkeys(names))
    merges = class_match.groups(names, once) if len(once) < len(names) else ()
    return replace(known, classes=len(once), labels=once, by_name=True, merges=merges)


def misnamed(known: ModelFacts, labels: Mapping[str, str]) -> Fault | None:
    """The fault of a mapping that does not name each class of the head once; None where these are not known."""
    at = ("labels",)
    if not labels or known.architecture is None:
        return None
    if known.classes is None:
        message = f"the files are of a `{known.architecture}`, which has no classes that `labels` could name"
        return Fault(CODE, message, at, key=True)
    found = class_match.match(tuple(labels), _theirs(known))
    if found.unknown:
        near = closest(found.unknown[0], _theirs(known))
        help_ = f"did you mean `{near}`?" if near else f"it has {listed(_theirs(known))}"
        message = f"the head in the files has no class {shown(found.unknown[0])}"
        return Fault(CODE, message, (*at, found.unknown[0]), help=help_, key=True)
    if found.lacking:
        message = f"`labels` has no name for the class {listed(found.lacking)} of the head"
        return Fault(CODE, message, at, help=f"name each of its classes; it has {listed(_theirs(known))}")
    return None


def compared_head(
    context: ModelContext, written: Mapping[str, Any], labels: Mapping[str, str], reads: str = ""
) -> Verdict:
    """What becomes of the head in the files of a model.

    Args:
        context: the context in which the model is built.
        written: the configuration in its files. Where it names no class of the library, the weights tell what they have.
        labels: the name in the task for each class of the head, if the spec has such a mapping.
        reads: how the model reads the texts of a row, where its task ranks candidates.

    Raises:
        Fault: KD317 if the head has other classes than the task, and may not be re-initialised.
    """
    kind = context.head.kind if context.head else None
    unnamed = {} if written.get("architectures") else {"architectures": [f"For{architecture(kind or '')}"]}
    known = families.facts({**written, **unnamed})
    scores = kind == "ranking"
    if unnamed and scores:
        known = replace(known, classes=None)  # the library's default number is not that of such a head
    if (fault := misnamed(known, labels)) is not None:
        raise fault
    task = context.task or context.learns.get(context.name, ("",))[-1]
    names = context.head.labels if context.head else ()
    wanted = Wanted(task=task, kind=kind, labels=names, reads=reads)
    verdict = compare_head(context.name, named_by(known, labels), wanted, as_loaded=context.read_as_loaded)
    if verdict.error is not None:
        raise verdict.error
    return replace(verdict, required=None) if unnamed and not scores else verdict


def fit_rows(config: Any, verdict: Verdict) -> None:
    """Give the configuration as many classes as the head in the files, whose rows are merged once they are loaded."""
    if verdict.groups:
        config.num_labels = sum(map(len, verdict.groups))


def settle(
    module: nn.Module, verdict: Verdict, fresh: frozenset[str], wider: Callable[[], nn.Module]
) -> frozenset[str]:
    """Put the rows of a loaded head into the task's order, merge or re-initialise them, as the comparison with the task found.

    Args:
        module: the model with its loaded weights, changed in place.
        verdict: what becomes of its head.
        fresh: the parameters that were not in the files, or of other shapes, so that the library has drawn them.
        wider: makes the same model with one class more, on the meta device, which shows what has a row for each class.

    Returns:
        The names of all parameters that were drawn, here from torch's generator, or before.

    Raises:
        Fault: KD317 if the files have no head, where their configuration has one and it may not be re-initialised.
    """
    if fresh and verdict.required:
        message = f"the files have no {shown(min(fresh))}, which belongs to the head that their configuration has"
        raise Fault(CODE, message, ("path",), help=verdict.required)
    if not verdict.redrawn and not verdict.order and not verdict.groups:
        return fresh
    import torch

    shapes = {name: tensor.shape for name, tensor in wider().state_dict().items()}
    loaded = {name: tensor for name, tensor in module.state_dict().items() if name not in fresh}
    rows = {name: tensor for name, tensor in loaded.items() if shapes[name] != tensor.shape}
    if verdict.redrawn:
        for owner in dict.fromkeys(name.rpartition(".")[0] for name in rows):
            _draw(module, module.get_submodule(owner))
        return fresh | rows.keys()
    if verdict.groups:
        _merge(module, {name.rpartition(".")[0] for name in rows}, verdict.groups)
        return fresh
    with torch.no_grad():
        for name, tensor in rows.items():
            (axis,) = (n for n, size in enumerate(tensor.shape) if shapes[name][n] != size)
            tensor.copy_(tensor.index_select(axis, torch.tensor(verdict.order)))
    return fresh


def _merge(module: nn.Module, owners: Collection[str], groups: tuple[tuple[int, ...], ...]) -> None:
    """Put the merging behind the layer that has a row for each class, and whose outputs are the logits."""
    from kdspec.networks.merged_head import MergedHead

    if len(owners) != 1:
        message = (
            f"the classes of a `{type(module).__name__}` are the outputs of {len(owners)} layers, and cannot be merged"
        )
        raise Fault(CODE, message, ("labels",), help="give each class of its head its own name")
    (owner,) = owners
    module.set_submodule(owner, MergedHead(module.get_submodule(owner), groups))


def _draw(module: nn.Module, owner: nn.Module) -> None:
    """Initialise the parameters of one layer as the library does for a new model of this family."""
    for parameter in owner.parameters(recurse=False):
        cast("Any", parameter)._is_hf_initialized = False  # noqa: SLF001 - the library skips what it has loaded
    cast("Any", module)._init_weights(owner)  # noqa: SLF001 - each family has its own


def _theirs(known: ModelFacts) -> tuple[str, ...]:
    assert known.classes is not None, "asked for heads of classes"
    return known.labels or class_match.numbered(known.classes)
