"""Which of several processes this one is, as `torchrun` has told it, and the device that it computes on."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
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
    """This process among all of a run, and among those of its machine."""

    rank: int
    world: int
    local_rank: int
    local_world: int
    address: str = ""
    """Where the processes meet."""
    port: int = 0
    attempt: str = "0"
    """How often torchrun has started them anew."""


ALONE = Rank(rank=0, world=1, local_rank=0, local_world=1)


def place(environ: Mapping[str, str]) -> Rank:
    """What the variables of torchrun say; without them, and for a world of one, the process is alone.

    Raises:
        FindingError: KD513 where some of them are missing, are no numbers, or contradict each other.
    """
    if "RANK" not in environ and environ.get("WORLD_SIZE", "1") == "1":
        return ALONE  # MASTER_ADDR alone may be left over from anything
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
        told = ", ".join(f"`{name}={environ[name]}`" for name in _NUMBERS)
        raise _refused(f"the ranks do not lie below the numbers of processes: {told}")
    if world == 1:
        return ALONE
    return Rank(
        rank, world, local_rank, local_world, environ["MASTER_ADDR"], int(environ["MASTER_PORT"]),
        environ.get("TORCHELASTIC_RESTART_COUNT", "0"),
    )  # fmt: skip


def device(place: Rank, wanted: str | None) -> torch.device:
    """Where this process computes: alone on `wanted` or the first GPU, one of several on a GPU of its own, or the CPU.

    Raises:
        FindingError: KD513 where several processes would share a GPU.
    """
    import torch

    kind = wanted or ("cuda" if torch.cuda.is_available() else "cpu")
    if place.world == 1 or kind == "cpu":
        return torch.device(kind)
    if kind != "cuda":
        message = f"{place.world} processes cannot all compute on `{kind}`"
        help_ = "with several processes `--device` is `cpu` or `cuda`, and each takes the GPU of its number"
        raise FindingError(Finding("KD513", message, help=help_))
    if place.local_world > (there := torch.cuda.device_count()):
        message = f"{place.local_world} processes were started on a machine with {there} GPUs"
        help_ = f"start one a GPU, `--nproc-per-node={there}`, or compute with `--device cpu`"
        raise FindingError(Finding("KD513", message, help=help_))
    return torch.device("cuda", place.local_rank)


def check(place: Rank, strategy: Strategy) -> None:
    """A strategy for several processes needs them, and maybe a package: KD513 for one process alone, KD515 without it."""
    if place.world == 1 and strategy != "auto":
        message = f"`--backend {strategy}` is for several processes, and this one is alone"
        raise FindingError(Finding("KD513", message, help=HOW))
    if strategy == "accelerate" and importlib.util.find_spec("accelerate") is None:
        message = "`--backend accelerate` needs the package `accelerate`, which is not installed"
        raise FindingError(Finding("KD515", message, help="`pip install 'kdspec[accelerate]'` installs it"))


def _refused(message: str) -> FindingError:
    note = "one that does not know of the others would train alone and write to the same folder"
    return FindingError(Finding("KD513", message, notes=(note,), help=HOW))
