"""A lane: what it takes to compute micro-batches beside others, and never to wait for them."""

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
    """A student and an objective with their gradients, and a generator for what is random in them.

    Args:
        bundle: what is trained.
        students: the student's forward pass for each task.
    """

    def __init__(self, trainable: TrainableModule, students: Mapping[str, ModelRunner]) -> None:
        self.trainable, self.students = trainable, students
        self.draws = LaneDropout()

    def try_out(self, work: Callable[[], object]) -> str:
        """What a forward pass, which `work` does, stirs that threads have in common; empty where it stirs nothing.

        Buffers of the student are put back.
        """
        kept = [(buffer, buffer.clone()) for buffer in self.trainable.buffers()]
        before = _generators()
        with self.draws:
            work()
        if _generators() != before:
            return "the student or a loss draws random numbers that threads would take from each other"
        changed = [(buffer, old) for buffer, old in kept if not torch.equal(buffer, old)]
        for buffer, old in changed:
            buffer.copy_(old)
        return "the student or a loss keeps something from one batch to the next" if changed else ""


class ModuleReplica(Lane):
    """A lane beside the first: its weights are those of the first, its gradients its own until they are added there.

    The modules are others, since what hooks take from a forward pass must be of its own thread.

    Args:
        first: the lane whose weights they are.
        again: makes the bundle of a student once more.
        add: adds to the gradients of embeddings of the first.
    """

    def __init__(self, first: Lane, again: Callable[[nn.Module], TrainableModule], add: Add) -> None:
        student = first.trainable.student
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
        """Gradients of embeddings go their ordinary way from now on."""
        self._embeddings.close()


def _generators() -> tuple[bytes, object, bytes]:
    """The state of every global generator that a CPU draws from."""
    numeric = np.random.get_state(legacy=False)  # noqa: NPY002 - the global one that other packages draw from
    return bytes(torch.default_generator.get_state().numpy()), random.getstate(), repr(numeric).encode()
