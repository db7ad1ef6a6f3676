"""The kind `model`: its context, its facts without weights, and its methods."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.losses import LogitKind, Scope, Scoped
from kdspec.api.kinds.recorded import Answer, RecordedRows
from kdspec.api.spec.named_files import named_folders

if TYPE_CHECKING:
    from torch import nn

    from kdspec.api.working.logits import OutputHead
    from kdspec.api.working.task import Head
    from kdspec.diagnostics.fault import Fault


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


def _not_recorded(names: Collection[str]) -> None:
    del names


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """The facts of a model that are known without its weights; None: unknown."""

    layers: int | None = None
    """Number of hidden layers; `output.hidden_states` has one more, the embedding output first."""
    width: int | None = None
    """Width of the hidden states."""
    embedding: int | None = None
    """Width of the vector of a text, the feature `embedding`: behind dense layers and a projection that is kept."""
    heads: int | None = None
    """Attention heads of a layer."""
    family: str | None = None
    """The `model_type` of a transformers model."""
    classes: int | None = None
    """Number of classes of the head in its files; behind `merges`."""
    labels: tuple[str, ...] = ()
    """The names of these classes in the order of the logits, if its files name them."""
    by_name: bool = False
    """Whether `labels` are the task's names, from a mapping in the spec, so that `build` puts the logits in the task's order."""
    merges: tuple[tuple[int, ...], ...] = ()
    """For each of `labels` the positions of the head's classes that become it, if a mapping in the spec gives two of them one
    name: the logit of a class is the logarithm of the sum of `exp` over them. Empty: each class is one of the head."""
    problem: str | None = None
    """The `problem_type` of that head, such as `single_label_classification`, if its files declare one."""
    architecture: str | None = None
    """The class in its files, such as `BertModel`; empty if all its weights are initialised randomly."""
    vocabulary: int | None = None
    """Number of tokens with embeddings, from its configuration."""
    scope: Scope | None = None
    """What its outputs for a row depend on, where models of one component differ; None: as the component's `scope`."""


class KeptProjection(NamedTuple):
    """A linear layer behind the vector of a text, to the width of a teacher's; before the vector is normalised.

    It is part of the model: it is trained, evaluated and saved with it.
    """

    takes: int
    """Width of the vector before it."""
    width: int
    """Width of the vector behind it."""
    folded: bool = False
    """Whether it is multiplied into the linear layer before it when the model is saved."""


class ReadFiles(NamedTuple):
    """What a model reads at one place, besides weights."""

    at: str
    """The parameter that names the place."""
    what: Literal["configuration", "tokenizer", "code", "commit", "file"]
    """What it is: `commit` for a name on the hub, whose content never changes."""
    files: tuple[Path, ...] = ()
    """The files on this machine; there may be none, and one that is added is a change."""
    commit: str = ""
    """The commit, for `commit`."""


@dataclass(frozen=True, kw_only=True)
class InputLimits:
    """What the rows of a model may have; None: no limit, or it is not known."""

    positions: int | None = None
    """Number of tokens of the longest row."""
    vocabulary: int | None = None
    """Number of tokens that have embeddings: ids are below it."""


@dataclass(frozen=True, kw_only=True)
class ModelContext(BuildContext):
    """What a model may read."""

    name: str = ""
    """The name of the model in the spec."""
    head: Head | None = None
    """The head that its task needs; the first task's if there are several. None: the model without a head."""
    heads: Mapping[str, Head] = field(default_factory=_nothing)
    """The head that each of its tasks needs, by task; in a plan without labels. More than one: the model learns several
    tasks."""
    task: str = ""
    """The task for which a part of a model of several tasks is built on its own; empty for a whole model."""
    learns: Mapping[str, tuple[str, ...]] = field(default_factory=_nothing)
    """The tasks of each model of the stages, by model."""
    models: Mapping[str, Model] = field(default_factory=_nothing)
    """The models of the spec by name, to resolve `like`."""
    facts: Mapping[str, ModelFacts] = field(default_factory=_nothing)
    """The facts of each model, for `Model.check`."""
    built: Mapping[str, nn.Module] = field(default_factory=_nothing)
    """The models that are built already, to copy layers from."""
    projection: KeptProjection | None = None
    """A layer that the plan gives the model for matches of `embedding`, of those in its `kept_projections`."""
    read_as_loaded: bool = False
    """Whether its predictions are read before a stage has trained it: the head in its files must be that of the task."""
    weights: bool = True
    """False: only the shapes are needed. No weight is read, and none need be initialised."""
    on_initialised: Callable[[Collection[str]], None] = _not_recorded
    """To be called with the names of the parameters that are randomly initialised, neither read from files nor copied."""
    trusts_code: bool = False
    """Whether code in the model's files may be run. `--trust-remote-code` allows it; a spec cannot."""


class Model(Scoped):
    """An `nn.Module`, made from a `ModelContext`. Weights are loaded in `build` only.

    By default a model has no tokenizer and is saved as its `state_dict`.
    """

    kind: ClassVar[str] = "model"
    has_weights: ClassVar[bool] = True
    """False for a model whose answers are in the rows: it can only teach, and its outputs are not cached."""

    @abstractmethod
    def build(self, context: ModelContext) -> nn.Module:
        """Make the module."""

    def records(self) -> Mapping[tuple[str | int, ...], str]:
        """The columns of the rows that have its answers, by the path of the parameter that names each. Torch-free.

        Only a model without weights has some.
        """
        return {}

    def teaches(self, logits: LogitKind | None) -> Fault | None:
        """Why the answers that are recorded in its columns are not those of a task with such logits; None: they are. Torch-free."""
        del logits
        return None

    def answers(self, rows: RecordedRows) -> Sequence[Answer | None]:
        """The logits of each row from the columns of `records`, None for a row without an answer; may raise a `Fault`. Torch-free.

        Asked of a model without weights whose `form` begins with `ANSWERS`.
        """
        del rows
        return ()

    def classes_in(self, rows: RecordedRows) -> Sequence[str]:
        """The classes that its answers to these rows name, sorted, for the help of a spec that names none; by default none known.

        May raise a `Fault`. Torch-free. Asked of the models that `answers` is asked of.
        """
        del rows
        return ()

    def skeleton(self, context: ModelContext) -> nn.Module:
        """The module for its shapes alone; its tensors may be on the meta device."""
        return self.build(context)

    def facts(self, context: ModelContext) -> ModelFacts:
        """Layer count, widths and the like, without weights; None for what is not known. Torch-free."""
        del context
        return ModelFacts()

    def kept_projections(self, context: ModelContext) -> frozenset[Literal["keep", "fold"]]:
        """How a projection of its vectors of texts can become a layer of it (`ModelContext.projection`); by default not at all.

        Where it cannot be kept, one that a match needs is thrown away after training. Torch-free.
        """
        del context
        return frozenset()

    def fetch(self, context: ModelContext) -> None:
        """Download what `facts` and the plan read, where it is not on this machine yet; by default nothing.

        A run calls it before it reads rows, so that the classes of all loaded heads are known before anything is trained.
        """
        del context

    def copies(self, module: nn.Module, context: ModelContext) -> tuple[str, list[tuple[str, str]]] | None:
        """The model that some tensors of the module are copied from, with pairs of tensor names; None for none."""
        del module, context
        return None

    def uses(self) -> tuple[str, ...]:
        """The other models of the spec that this one is made from (`like`, `initialize`)."""
        return ()

    def can_learn(self, head: str | None) -> bool:
        """Whether it can have this kind of head (`Task.head`) beside others, as the student of several tasks. Torch-free.

        If true, `build` finds the heads in `context.heads`.
        """
        del head
        return False

    def for_task(self, module: nn.Module, task: str, context: ModelContext) -> nn.Module:
        """The part of the module that computes the outputs of a task, if `context.heads` has several.

        By default the whole module: the adaptor then assigns its outputs to tasks (`by_task`).
        """
        del task, context
        return module

    def output_head(self, module: nn.Module, context: ModelContext) -> OutputHead | None:
        """The linear layer that computes the logits of the module, if it may be large; None: not known.

        A large head is not applied in the forward pass, which ends at its input, but in the losses, chunk by chunk.
        """
        del module, context
        return None

    def check(self, context: ModelContext) -> Iterable[Fault]:
        """Whether it is compatible with the other models: yields a fault for each error. Torch-free.

        Called by `kdspec validate` when all names are resolved; `models` and `facts` of the context are complete.
        A fault with the code KD305 is a warning.
        """
        del context
        return ()

    def tokenizer(self, context: ModelContext) -> Any | None:
        """The tokenizer of this model, or None."""
        del context
        return None

    def tokenizer_id(self, context: ModelContext) -> str | None:
        """Tokenizer identity: equal if and only if two models use the same tokenizer; None without one. Torch-free."""
        del context
        return None

    def token_ids(self, context: ModelContext) -> str | None:
        """A text that differs between models that get different token ids for some texts; None: not known. Torch-free.

        Layers are matched token by token only if it is equal. Where it is not known, the ids of the rows are compared.
        """
        del context
        return None

    def input_limits(self, context: ModelContext) -> InputLimits:
        """The limits of its rows, which a run checks when it encodes them, before the first step; by default none."""
        del context
        return InputLimits()

    def form(self, context: ModelContext) -> str:
        """How it needs the texts of a row joined (`Reader.form`); "": as the task does it. Torch-free."""
        del context
        return ""

    def prompts(self, context: ModelContext) -> Mapping[str, str]:
        """The texts that it needs before each text (`Reader.prompts`); by default none. Torch-free.

        They are given by what a text is, `query` or `document`; `""` is for texts of which nothing is said.
        """
        del context
        return {}

    def weight_files(self, context: ModelContext) -> Collection[Path]:
        """The files on this machine from which `build` loads weights; empty if it loads none. Torch-free.

        The table at the end of a run gives their size for a model that no stage has trained.
        """
        del context
        return ()

    def read_files(self, context: ModelContext) -> Iterable[ReadFiles]:
        """What else `build` and `tokenizer` read; by default the files in the folders of fields of the type `SpecFolderOrHub`.

        With weights and files in fields of the type `SpecFile` it is part of the identity of a run: one that resumes with
        other content stops (KD509). Torch-free.
        """
        for at, folder in named_folders(self, context.folder):
            yield ReadFiles(str(at[0]), "file", tuple(sorted(path for path in folder.iterdir() if path.is_file())))

    def save(self, module: nn.Module, folder: Any, context: ModelContext) -> None:
        """Write the trained model so that it can be used without kdspec."""
        from safetensors.torch import save_model

        del context
        save_model(module, str(folder / "model.safetensors"))

    def load(self, module: nn.Module, folder: Any) -> None:
        """Load the weights that `save` wrote into `module`."""
        from safetensors.torch import load_model

        load_model(module, str(folder / "model.safetensors"))
