"""The backend of Accelerate: checks its configuration, and trains with its data-parallel wrapper."""
# ruff: noqa: D102 - the protocol documents what its classes do

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.processes.backend import Precision
from kdspec.engine.processes.ddp_fsdp import Replicated
from kdspec.engine.processes.process_group import ProcessGroup

if TYPE_CHECKING:
    from accelerate import Accelerator

PLAIN = frozenset({"MULTI_CPU", "MULTI_GPU"})
"""The distributed types for which Accelerate wraps a model in DDP."""
_STARTED = frozenset({"num_processes", "num_machines", "machine_rank", "main_process_ip", "main_process_port",
                      "rdzv_backend", "same_network", "gpu_ids", "use_cpu", "enable_cpu_affinity",
                      "main_training_function", "compute_environment", "distributed_type", "debug"})  # fmt: skip
"""Entries about starting processes, which torchrun has already done; they are ignored."""
_LAUNCHED: Mapping[str, str] = MappingProxyType(
    {
        "ACCELERATE_USE_DEEPSPEED": "DEEPSPEED",
        "ACCELERATE_USE_FSDP": "FSDP",
        "ACCELERATE_USE_MEGATRON_LM": "MEGATRON_LM",
        "ACCELERATE_USE_PARALLELISM_CONFIG": "",
    }
)
"""Variables that select another way to train."""
_OTHERWISE: Mapping[str, str] = MappingProxyType(
    {
        "FSDP": "use `--backend fsdp`, which needs no configuration",
        "DEEPSPEED": "use `--backend fsdp`, which also shards weights, gradients and optimizer state",
    }
)


class Accelerated(Replicated):
    """Training by Accelerate's DDP: it wraps the model, reduces the gradients and runs the backward pass.

    Data order, precision, clipping, steps, collectives and checkpoints are the engine's, so that a run can be stopped under
    another backend and resumed here with the same results.
    """

    def __init__(
        self, process_group: ProcessGroup, precision: Precision = "fp32", configuration: Path | None = None
    ) -> None:
        super().__init__(process_group, precision)
        self._accelerator = accelerator(process_group, precision, configuration)

    def _replicated(self, module: nn.Module) -> DistributedDataParallel:
        found = self._accelerator.prepare_model(module, device_placement=False)
        assert isinstance(found, DistributedDataParallel), "`PLAIN` types are wrapped in DDP"
        return found

    def accumulate(self, module: nn.Module, last: bool) -> AbstractContextManager[object]:  # noqa: ARG002, FBT001 - the seam
        assert self._wrapper is not None, "wrapped, with something to train"
        context: AbstractContextManager[object] = nullcontext() if last else self._accelerator.no_sync(self._wrapper)
        return context

    def backward(self, loss: Tensor) -> None:
        self._accelerator.backward(self._scaler.scale(loss * self.world))


def accelerator(process_group: ProcessGroup, precision: Precision, configuration: Path | None) -> Accelerator:
    """An `Accelerator` in the process group that exists already.

    Raises:
        FindingError: KD515 if Accelerate cannot read its configuration, would train in an unsupported way, or with other
            processes than these.
    """
    import accelerate
    from accelerate.utils import DistributedDataParallelKwargs

    check_environment(os.environ, precision)
    if configuration is not None:
        check(read(configuration), configuration, process_group, precision)
    handler = DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)
    try:
        # Mixed precision is the engine's: Accelerate's would convert all model outputs to float32.
        made = accelerate.Accelerator(
            cpu=process_group.device.type == "cpu",
            mixed_precision="no",
            kwargs_handlers=[handler],
            gradient_accumulation_steps=1,
        )
    except (ImportError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _refused(f"Accelerate cannot be started: {_first_line(error)}") from error
    kind = made.distributed_type.value
    if kind not in PLAIN:
        raise _refused(
            f"Accelerate would train with `{kind}`, which this backend does not support", _OTHERWISE.get(kind)
        )
    if (made.num_processes, made.process_index) != (process_group.world, process_group.rank):
        here = f"process {made.process_index} of {made.num_processes}"
        raise _refused(f"Accelerate sees {here}, torchrun process {process_group.rank} of {process_group.world}")
    if (made.device.type, made.device.index or 0) != (process_group.device.type, process_group.device.index or 0):
        raise _refused(f"Accelerate uses `{made.device}`, this run `{process_group.device}`")
    return made


def read(configuration: Path) -> dict[str, Any]:
    """The entries of a file of `accelerate config`. Raises KD515 if it cannot be read."""
    from accelerate.commands.config.config_args import load_config_from_file
    from yaml import YAMLError

    try:
        return dict(load_config_from_file(str(configuration)).to_dict())
    except (OSError, ValueError, TypeError, AttributeError, YAMLError) as error:
        raise _refused(f"`{configuration}` is not a configuration of Accelerate: {_first_line(error)}") from error


def check(written: dict[str, Any], configuration: Path, process_group: ProcessGroup, precision: Precision) -> None:
    """Raise KD515 if an entry of the configuration would have no effect or contradicts the run."""
    kind = str(written["distributed_type"])
    if kind not in PLAIN:
        raise _refused(f"`{configuration}` is for `{kind}`, which this backend does not support", _OTHERWISE.get(kind))
    count = written.get("num_processes", -1)
    if count not in (-1, process_group.world):
        raise _refused(f"`{configuration}` is for {count} processes, but torchrun has started {process_group.world}")
    mixed = str(written.get("mixed_precision") or "no")
    if mixed not in ("no", precision):
        help_ = f"set `training.precision: {mixed}` in the spec, and remove it here"
        raise _refused(
            f"`{configuration}` has `mixed_precision: {mixed}`, but the spec `precision: {precision}`", help_
        )
    used = _STARTED | {"mixed_precision"}
    if left := sorted(key for key, value in written.items() if key not in used and value):
        raise _refused(f"`{left[0]}` in `{configuration}` would have no effect", f"remove `{left[0]}`")


def check_environment(environ: Mapping[str, str], precision: Precision) -> None:
    """Raise KD515 if a variable of `accelerate launch` would have no effect."""
    for name, kind in _LAUNCHED.items():
        if environ.get(name, "").lower() == "true":
            message = f"`accelerate launch` has set `{name}`, which this backend does not support"
            raise _refused(message, _OTHERWISE.get(kind))
    allowed = {"ACCELERATE_MIXED_PRECISION": precision, "ACCELERATE_DYNAMO_BACKEND": "no"}
    for name, value in allowed.items():
        if (setting := environ.get(name, "no").lower()) not in ("no", value):
            raise _refused(f"`accelerate launch` has set `{name}` to `{setting}`, which would have no effect")


def _refused(message: str, help_: str | None = None) -> FindingError:
    return FindingError(Finding("KD515", message, help=help_))


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
