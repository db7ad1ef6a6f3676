"""Teams of processes for tests, forked from one that has imported everything, since that takes longer than they do.

    python ranks.py starts.json

A start has `folder`, `world`, and `jobs`: sessions that a team runs one after the other. A job has `text` and `output`,
and may have `sets`, `backend`, and `at`: what happens in which step to which rank. An error ends the team, unless all of it
`fails`. `copies` are made before a start.
What came of a job is written to the folder for each rank, and so are the codes with which the processes ended.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PLUGINS = [*(HERE.parent / "shared" / name for name in ("toys.py", "ranking_models.py")), HERE / "ranks_plugin.py"]


def run(job: dict[str, Any], folder: Path, registry: Any, process_group: Any) -> Any:
    from kdspec.diagnostics.finding import FindingError
    from kdspec.engine.run.session import Session
    from kdspec.engine.run.stage_run import Interrupted
    from kdspec.testing import plan

    planned = plan(job["text"], registry, folder=folder, sets=job.get("sets", ()))
    os.environ["AT"] = json.dumps(job.get("at", {}))
    backend = job.get("backend", "auto")
    configuration = folder / job["accelerate_config"] if "accelerate_config" in job else None
    session = Session(
        planned, registry, output=folder / job["output"], device="cpu", backend=backend, process_group=process_group,
        shard_teachers=job.get("shard_teachers", False), accelerate_config=configuration,
    )  # fmt: skip
    try:
        result = session.run()
    except Interrupted as stopped:
        return {"signal": stopped.signal}
    except FindingError as error:
        return {"errors": [[each.code, each.message, *each.notes] for each in error.findings]}
    finally:
        # Left deaf, as it should be where a process then ends.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return {"finished": result.already_finished}


def member(folder: Path, jobs: list[dict[str, Any]], registry: Any) -> None:
    from kdspec.engine.processes import torchrun
    from kdspec.engine.processes.process_group import ProcessGroup

    place = torchrun.place(os.environ)
    with ProcessGroup(place, torchrun.device(place, "cpu")) as process_group:
        for number, job in enumerate(jobs):
            told = run(job, folder, registry, process_group)
            (folder / f"job-{number}-{place.rank}.json").write_text(json.dumps(told))
            if "errors" in told and not job.get("fails"):
                raise SystemExit(3)


def forked(start: dict[str, Any], rank: int, port: int, registry: Any) -> int:
    """The number of a new process."""
    child = os.fork()
    if child:
        return child
    folder, world = Path(start["folder"]), str(start["world"])
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    code = 1
    try:
        with (folder / f"errors-{rank}.txt").open("w") as errors:
            os.dup2(errors.fileno(), 2)
            try:
                member(folder, start["jobs"], registry)
                code = 0
            except SystemExit as stop:
                code = stop.code
            except BaseException:  # noqa: BLE001 - the end of a process
                traceback.print_exc(file=errors)
    finally:
        os._exit(code)


def main(starts: Path) -> None:
    from kdspec.testing import registry

    for name in (
        "kdspec.engine.run.session",
        "kdspec.engine.processes.ddp_fsdp",
        "kdspec.engine.processes.accelerate",
        "accelerate",
        "transformers.models.bert.modeling_bert",
        "datasets",
        *os.environ.get("EXTRA", "").split(),
    ):
        importlib.import_module(name)
    known = registry(*PLUGINS, *(sys.modules[name] for name in os.environ.get("EXTRA", "").split()))
    for start in json.loads(starts.read_text()):
        folder = Path(start["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        for source, target in start.get("copies", ()):
            shutil.copytree(source, target)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        children = [forked(start, rank, port, known) for rank in range(start["world"])]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        (folder / "codes.json").write_text(json.dumps(codes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
