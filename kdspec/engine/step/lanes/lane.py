"""A lane: a student, an objective, gradients and a generator for one thread, without locks."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.engine.step.embedding_gradients import Add, InPlace
from kdspec.engine.step.lanes.dropout import LaneDropout
from kdspec.engine.step.trainable import TrainableModule


class Lane:
    """A student and an objective with their gradients, and a generator for their dropout.

    Args:
        trainable: the module that is trained.
        students: the student's runner for each task.
    """

    def __init__(self, trainable: TrainableModule, students: Mapping[str, ModelRunner]) -> None:
        self.trainable, self.students = trainable, students
        self.draws = LaneDropout()

    def try_out(self, work: Callable[[], object]) -> str:
        """Run `work`, a forward pass, and return the shared state that it changes; an empty string if none.

        Buffers of the student are restored.
        """
        kept = [(buffer, buffer.clone()) for buffer in self.trainable.buffers()]
        before = _generators()
        with self.draws:
            work()
        if _generators() != before:
            return "the student or a loss uses a random generator that threads would share"
        changed = [(buffer, old) for buffer, old in kept if not torch.equal(buffer, old)]
        for buffer, old in changed:
            buffer.copy_(old)
        return "the student or a loss keeps state between batches" if changed else ""


class ModuleReplica(Lane):
    """A lane that shares the weights of the first one, with its own gradients until they are added to the first's.

    Its modules are copies, because forward hooks must capture tensors of their own thread only.

    Args:
        first: the lane with the weights.
        again: builds another trainable module around a copy of the student.
        add: adds to the gradients of the first lane's embeddings.
    """

    def __init__(self, first: Lane, again: Callable[[nn.Module], TrainableModule], add: Add) -> None:
        student = first.trainable.student
        # New parameters on the same memory: `.grad` belongs to the parameter, so each lane has its own gradients. The
        # memo of deepcopy maps the tensors to them (or to themselves), so that no weight is copied.
        self._own = {id(p): nn.Parameter(p.detach()) for p in first.trainable.parameters() if p.requires_grad}
        kept: dict[int, Tensor] = {id(tensor): tensor for tensor in (*student.parameters(), *student.buffers())}
        modules = [forward.module for forward in first.students.values()]
        copied, *modules = copy.deepcopy([student, *modules], {**kept, **self._own})
        trainable = again(copied)
        objective = first.trainable.objective
        weights = ((name, self._own.get(id(p), p)) for name, p in objective.named_parameters(remove_duplicate=False))
        for name, tensor in (*weights, *objective.named_buffers(remove_duplicate=False)):
            owner, _, key = name.rpartition(".")
            setattr(trainable.objective.get_submodule(owner), key, tensor)
        trainable.train()
        pairs = zip(first.students.items(), modules, strict=True)
        super().__init__(trainable, {task: forward.of(module) for (task, forward), module in pairs})
        self._first = {id(self._own[id(p)]): p for p in first.trainable.parameters() if p.requires_grad}
        self._add = add
        self._looked_up: list[tuple[Tensor, Tensor, Tensor]] = []
        self._embeddings = InPlace(copied, add=lambda *found: self._looked_up.append(found)).__enter__()

    def give(self) -> None:
        """Add the gradients to those of the first lane."""
        with torch.no_grad():
            for own in self._own.values():
                if own.grad is None:
                    continue
                whole = self._first[id(own)]
                whole.grad = own.grad if whole.grad is None else whole.grad.add_(own.grad)
                own.grad = None
            for weight, rows, gradients in self._looked_up:
                self._add(self._first[id(weight)], rows, gradients)
        self._looked_up.clear()

    def close(self) -> None:
        """Restore the ordinary gradients of embeddings."""
        self._embeddings.close()


def _generators() -> tuple[bytes, object, bytes]:
    """The states of all global random generators of the CPU."""
    numeric = np.random.get_state(legacy=False)  # noqa: NPY002 - the global one, which other packages use
    return bytes(torch.default_generator.get_state().numpy()), random.getstate(), repr(numeric).encode()
