"""The rank and the device of this process, from the variables of `torchrun`."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kdspec.diagnostics.finding import Finding, FindingError

if TYPE_CHECKING:
    import torch

Strategy = Literal["auto", "ddp", "fsdp", "accelerate"]

HOW = "start the processes with `torchrun --nproc-per-node=2 -m kdspec run ...`"
_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_PLACES = ("MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Rank:
    """The rank of this process in the run and on its machine."""

    rank: int
    world: int
    local_rank: int
    local_world: int
    address: str = ""
    """The host of the process group's store."""
    port: int = 0
    attempt: str = "0"
    """How often torchrun has restarted the processes."""


ALONE = Rank(rank=0, world=1, local_rank=0, local_world=1)


def place(environ: Mapping[str, str]) -> Rank:
    """The rank in torchrun's variables; without them, and for a world of one, the process is alone.

    Raises:
        FindingError: KD513 if some of them are missing, are not numbers, or contradict each other.
    """
    if "RANK" not in environ and environ.get("WORLD_SIZE", "1") == "1":
        return ALONE  # MASTER_ADDR alone may come from other programs
    missing = [name for name in (*_NUMBERS, *_PLACES) if not environ.get(name)]
    if missing:
        given = [f"`{name}={environ[name]}`" for name in (*_NUMBERS, *_PLACES) if environ.get(name)]
        listed = ", ".join(f"`{name}`" for name in missing)
        raise _refused(f"the environment has {', '.join(given)}, but not {listed}")
    wrong = [name for name in (*_NUMBERS, "MASTER_PORT") if not environ[name].isdecimal()]
    if wrong:
        raise _refused(f"`{wrong[0]}` is `{environ[wrong[0]]}`, not a number")
    rank, world, local_rank, local_world = (int(environ[name]) for name in _NUMBERS)
    if rank >= world or local_rank >= local_world or local_world > world:
        listed = ", ".join(f"`{name}={environ[name]}`" for name in _NUMBERS)
        raise _refused(f"a rank is not below its number of processes: {listed}")
    if world == 1:
        return ALONE
    return Rank(
        rank, world, local_rank, local_world, environ["MASTER_ADDR"], int(environ["MASTER_PORT"]),
        environ.get("TORCHELASTIC_RESTART_COUNT", "0"),
    )  # fmt: skip


def quiet_store(environ: MutableMapping[str, str]) -> None:
    """Keep torch's store from logging the stack of its C++ where another process has ended, which KD514 reports.

    To be called before torch is imported, which reads the variable then. A level that the user has set stays.
    """
    environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def device(place: Rank, wanted: str | None) -> torch.device:
    """The device of this process: `wanted` or the first GPU if it is alone; of several, a GPU each or the CPU.

    Raises:
        FindingError: KD513 if several processes would share a GPU.
    """
    import torch

    kind = wanted or ("cuda" if torch.cuda.is_available() else "cpu")
    if place.world == 1 or kind == "cpu":
        return torch.device(kind)
    if kind != "cuda":
        message = f"{place.world} processes cannot all compute on `{kind}`"
        help_ = "with several processes `--device` is `cpu` or `cuda`; each uses the GPU of its local rank"
        raise FindingError(Finding("KD513", message, help=help_))
    if place.local_world > (there := torch.cuda.device_count()):
        message = f"{place.local_world} processes were started on a machine with {there} GPUs"
        help_ = f"start one process per GPU, `--nproc-per-node={there}`, or use `--device cpu`"
        raise FindingError(Finding("KD513", message, help=help_))
    return torch.device("cuda", place.local_rank)


def check(place: Rank, strategy: Strategy) -> None:
    """Check that the strategy's processes and package exist: KD513 for a single process, KD515 without the package."""
    if place.world == 1 and strategy != "auto":
        message = f"`--backend {strategy}` needs several processes, and there is one"
        raise FindingError(Finding("KD513", message, help=HOW))
    if strategy == "accelerate" and importlib.util.find_spec("accelerate") is None:
        message = "`--backend accelerate` needs the package `accelerate`, which is not installed"
        raise FindingError(Finding("KD515", message, help="`pip install 'kdspec[accelerate]'` installs it"))


def _refused(message: str) -> FindingError:
    note = "without these variables each process would train separately and write to the same folder"
    return FindingError(Finding("KD513", message, notes=(note,), help=HOW))
