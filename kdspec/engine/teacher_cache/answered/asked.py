"""How a model is asked: for whole rows, or for the pieces of which they are made."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kdspec.api.working.pieces import PutsTogether
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.batches.loader import Loader
from kdspec.engine.batches.sampler import isolated_random
from kdspec.engine.forward.model_runner import ModelRunner, frozen
from kdspec.engine.processes.backend import Backend
from kdspec.engine.teacher_cache.answered.answered import Answered, AnsweredPieces, AnsweredRows
from kdspec.engine.teacher_cache.answered.piece_answers import ANSWERS, MASKS, PieceAnswers
from kdspec.engine.teacher_cache.kept_positions import Masks
from kdspec.engine.teacher_cache.reduce import Reducing
from kdspec.engine.teacher_cache.slots import Uncacheable
from kdspec.objectives.reductions import Reduced


def asked(
    teacher: ModelRunner, loader: Loader, backend: Backend, masks: Masks, enough: Sequence[Reduced] = ()
) -> tuple[ModelRunner | Reducing | PieceAnswers, Answered, Masks]:
    """How the teacher is asked, for what, and which tokens count.

    Args:
        teacher: the model.
        loader: its rows.
        backend: where and how it runs.
        masks: which tokens of the rows count.
        enough: reductions of its layers that suffice.

    Raises:
        Uncacheable: rows are made of pieces, and what is read of the teacher is not made of its answers for these.
    """
    pieces = loader.pieces(teacher.name)
    if pieces is None:
        forward = Reducing(teacher, enough, masks.inputs) if enough else teacher
        return forward, AnsweredRows(loader, teacher.name), masks
    if not isinstance(teacher.module, PutsTogether):
        raise Uncacheable("a row has several texts, and its module does not put answers for texts together")
    made, answered = PieceAnswers(teacher), AnsweredPieces(loader, pieces)
    batch = loader.batch(teacher.name, [0]).to(backend.device)
    with isolated_random(), frozen(teacher.module), backend.autocast():
        alone = answered.batch(answered.of([0]).tolist())
        answers, masked = made(alone.to(backend.device))[ANSWERS], MASKS.of(alone)["inputs"]
        try:
            made.put_together(batch, answers, torch.from_numpy(masked).to(backend.device))
        except FindingError as error:
            why = error.findings[0].message
            raise Uncacheable(
                f"a row has several texts, only what is made of its answers for them is kept, and {why}"
            ) from error
    return made, answered, MASKS
