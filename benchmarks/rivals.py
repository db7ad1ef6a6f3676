"""Other toolkits' training loops on the work of `peers.py`, each of which does a step when it is told to.

Each toolkit runs its own loop, unchanged; only its batch sampler is ours, and hands out a batch when it is told to. So the
loops can be stepped in turns, on the same rows, and a step has all of a toolkit in it.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import greenlet
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, SequentialSampler

LONGEST = 128

# torchdistill, and transformers where it is installed, import torchvision without using it here; its operators belong to
# another build of torch, and their names must be known before.
_TORCHVISION = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _TORCHVISION.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


@dataclass(frozen=True)
class Work:
    """What all of them learn."""

    rows: list[dict[str, Any]]
    """Each with `input_ids` and `labels`."""
    teacher: nn.Module
    """A classifier of transformers that returns its hidden states."""
    student: Callable[[], nn.Module]
    """A new student, always with the same weights."""
    projections: Callable[[], nn.ModuleList | None]
    """New projections, one for each pair of layers, always with the same weights; None where widths are the same."""
    layers: tuple[tuple[int, int], ...]
    """The pairs of hidden states that are matched by `hidden_mse` and by `mmd`, teacher first."""
    temperature: float = 8.0
    rate: float = 1e-4


@dataclass
class Done:
    """What a step has done."""

    loss: float
    tokens: int
    """Those that are no padding."""


class Stopped(BaseException):
    """The benchmark is over."""


class Gate:
    """A batch sampler that goes back to the benchmark before it hands out a batch."""

    def __init__(self, batches: list[list[int]]) -> None:
        self.batches, self.over = batches, False

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        for rows in self.batches:
            greenlet.getcurrent().parent.switch()
            if self.over:
                raise Stopped
            yield rows


@dataclass
class Rival:
    """A toolkit's loop, `run(work, gate, done)`, that stands still between steps.

    It has a stack of its own, but no thread: OpenMP keeps a team for each thread that computes, and where there are more
    of them than processors no team waits as it does when it is alone.
    """

    run: Callable[[Work, Gate, list[Done]], None]
    work: Work
    batches: list[list[int]]
    done: list[Done] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate = Gate(self.batches)
        self.loop = greenlet.greenlet(self._main)
        self.loop.switch()

    def step(self) -> Done:
        """One optimizer step; the rows of one that fetches ahead are those of the batch before."""
        before = len(self.done)
        while len(self.done) == before:  # the first time only fills what is fetched ahead
            if self.loop.dead:
                raise RuntimeError("a toolkit's loop has ended")
            self.loop.switch()
        return self.done[-1]

    def close(self) -> None:
        """End the loop where it stands."""
        self.gate.over = True
        self.loop.switch()

    def _main(self) -> None:
        with contextlib.suppress(Stopped):
            self.run(self.work, self.gate, self.done)


class Rows(Dataset[dict[str, Any]]):
    """The rows as a map-style data set."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self.rows[number]


def collate(rows: list[dict[str, Any]], length: int | None = None) -> dict[str, Tensor]:
    """Padded to the longest row, or to a length."""
    width = length or max(len(row["input_ids"]) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        mask[number, : len(row["input_ids"])] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([row["labels"] for row in rows])}


def soft(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of softened logits, (rows, classes)."""
    return -((teacher / temperature).softmax(-1) * (student / temperature).log_softmax(-1)).sum(-1).mean()


def hidden(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of the tokens that are no padding; (batch, length, width)."""
    chosen = mask.to(student)[..., None]
    return (functional.mse_loss(student, teacher, reduction="none") * chosen).sum() / (chosen.sum() * student.shape[-1])


def relations(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """`mmd` of a layer with itself: the mean squared difference of Gram matrices over the width, without padding."""
    chosen = mask.to(student)[..., None]
    student, teacher = student * chosen, teacher * chosen
    of_student = student @ student.transpose(1, 2) / student.shape[-1]
    of_teacher = teacher @ teacher.transpose(1, 2) / teacher.shape[-1]
    pairs = chosen @ chosen.transpose(1, 2)
    return (functional.mse_loss(of_student, of_teacher, reduction="none") * pairs).sum() / pairs.sum()


def losses(work: Work, projections: nn.ModuleList | None, student: Any, teacher: Any, mask: Tensor) -> Tensor:
    """The sum of all, from what the models returned."""
    found = soft(student.logits, teacher.logits, work.temperature)
    for number, (above, below) in enumerate(work.layers):
        mine, theirs = student.hidden_states[below], teacher.hidden_states[above]
        found = found + hidden(mine if projections is None else projections[number](mine), theirs, mask)
        found = found + relations(mine, theirs, mask)
    return found


def textbrewer(*, as_in_examples: bool) -> Callable[[Work, Gate, list[Done]], None]:
    """TextBrewer: as its examples (padded to 128, no mask, plain AdamW), or with what it can be given."""

    def run(work: Work, gate: Gate, done: list[Done]) -> None:
        import textbrewer as toolkit

        class Watched(toolkit.GeneralDistiller):  # type: ignore[misc,name-defined] # without types
            def train_on_batch(self, batch: Any, args: Any) -> Any:
                found = super().train_on_batch(batch, args)
                done.append(Done(float(found[0].detach()), int(batch["attention_mask"].sum())))
                return found

        def adaptor(batch: Any, outputs: Any) -> dict[str, Any]:
            mask = {} if as_in_examples else {"inputs_mask": batch["attention_mask"]}
            return {"logits": outputs.logits, "hidden": outputs.hidden_states, **mask}

        def corrected(pair: Any, other: Any, mask: Tensor | None = None) -> Tensor:
            return relations(pair[0], other[0], mask)  # type: ignore[arg-type] # the published one depends on the padding

        if "corrected_mmd" not in toolkit.MATCH_LOSS_MAP:
            toolkit.MATCH_LOSS_MAP["corrected_mmd"] = corrected
        student, made = work.student(), work.projections()
        matches: list[dict[str, Any]] = []
        for number, (above, below) in enumerate(work.layers):
            match: dict[str, Any] = {"layer_T": above, "layer_S": below, "feature": "hidden", "weight": 1}
            matches.append({**match, "loss": "hidden_mse"})
            if made is not None:
                matches[-1]["proj"] = ["linear", made[number].in_features, made[number].out_features]
            name = "mmd" if as_in_examples else "corrected_mmd"
            matches.append({**match, "loss": name, "layer_T": [above, above], "layer_S": [below, below]})
        with tempfile.TemporaryDirectory() as folder:
            distiller = Watched(
                toolkit.TrainingConfig(device="cpu", output_dir=folder),
                toolkit.DistillationConfig(temperature=work.temperature, intermediate_matches=matches),
                work.teacher, student, adaptor, adaptor,
            )  # fmt: skip
            if made is not None:
                for number, projection in enumerate(each for each in distiller.projs if each is not None):
                    projection.load_state_dict(made[number].state_dict())
            length = LONGEST if as_in_examples else None
            loader = DataLoader(Rows(work.rows), batch_sampler=gate, collate_fn=lambda rows: collate(rows, length))  # type: ignore[arg-type]  # of their data sets they ask for less than the stubs do
            options = {} if as_in_examples else {"fused": True}
            optimizer = torch.optim.AdamW(student.parameters(), lr=work.rate, weight_decay=0.0, **options)
            with distiller:
                distiller.train(optimizer, loader, num_epochs=1, max_grad_norm=1.0)

    return run


def trainer(work: Work, gate: Gate, done: list[Done]) -> None:
    """A subclass of transformers' Trainer with padding to the longest row of a batch."""
    from transformers import Trainer, TrainingArguments

    student = work.student()
    student.projections = work.projections()  # type: ignore[assignment] # which the optimizer must see

    class Distilling(Trainer):
        def get_train_dataloader(self) -> Any:
            loader = DataLoader(self.train_dataset, batch_sampler=gate, collate_fn=self.data_collator)
            return self.accelerator.prepare(loader)

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:  # noqa: FBT001, FBT002 - the library's signature
            given = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
            with torch.no_grad():
                taught = work.teacher(**given)
            learnt = model(**given)
            loss = losses(work, model.projections, learnt, taught, inputs["attention_mask"])
            done.append(Done(float(loss.detach()), int(inputs["attention_mask"].sum())))
            return (loss, learnt) if return_outputs else loss

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, max_steps=len(gate), learning_rate=work.rate, lr_scheduler_type="constant",
            per_device_train_batch_size=len(gate.batches[0]), save_strategy="no", report_to=[], use_cpu=True,
            disable_tqdm=True, remove_unused_columns=False, logging_strategy="no",
        )  # fmt: skip
        Distilling(student, arguments, train_dataset=Rows(work.rows), data_collator=collate).train()


def torchdistill(work: Work, gate: Gate, done: list[Done]) -> None:
    """torchdistill, configured as its YAML files do, with padding to the longest row of a batch."""
    from torchdistill.core.distillation import get_distillation_box
    from torchdistill.core.interfaces.registry import register_forward_proc_func
    from torchdistill.datasets.registry import register_batch_sampler, register_collate_func
    from torchdistill.losses.registry import register_func2extract_model_output, register_mid_level_loss

    class Both(nn.Module):
        """A model whose hidden states a hook can take: it returns them."""

        def __init__(self, model: nn.Module, projections: nn.ModuleList | None) -> None:
            super().__init__()
            self.model, self.projections = model, projections

        def forward(self, **given: Any) -> Any:
            return self.model(**given)

    @register_mid_level_loss
    class All(nn.Module):
        def forward(self, student: Any, teacher: Any, targets: Any) -> Tensor:
            learnt, taught = student["model"]["output"], teacher["model"]["output"]
            return losses(work, watched.projections, learnt, taught, targets["attention_mask"])

    @register_forward_proc_func
    def as_keywords(model: Any, sample_batch: Any, *_: Any, **__: Any) -> Any:
        return model(**sample_batch)

    @register_func2extract_model_output
    def no_loss(*_: Any, **__: Any) -> dict[str, Tensor]:
        return {}

    register_batch_sampler(lambda *_, **__: gate, key="gate")

    @register_collate_func
    def in_three(rows: list[tuple[dict[str, Any], ...]]) -> Any:
        batch = collate([row for row, *_ in rows])
        targets = {"labels": batch.pop("labels"), "attention_mask": batch["attention_mask"]}
        return batch, targets, {}

    watched = Both(work.student(), work.projections())
    configuration = {
        "num_epochs": 1,
        "train_data_loader": {
            "dataset_id": "train", "sampler": {"class_or_func": SequentialSampler, "kwargs": {}},
            "batch_sampler": {"key": "gate", "kwargs": {}}, "collate_fn": "in_three", "kwargs": {"num_workers": 0},
            "requires_supp": True,
        },
        "teacher": {"forward_proc": "as_keywords", "forward_hook": {"output": ["model"]}, "requires_grad": False},
        "student": {"forward_proc": "as_keywords", "forward_hook": {"output": ["model"]}},
        "optimizer": {"key": "AdamW", "kwargs": {"lr": work.rate, "weight_decay": 0.0}, "max_grad_norm": 1.0},
        "criterion": {
            "key": "WeightedSumLoss", "func2extract_model_loss": "no_loss",
            "kwargs": {"sub_terms": {"all": {"criterion": {"key": "All", "kwargs": {}}, "weight": 1.0}}},
        },
    }  # fmt: skip
    box = get_distillation_box(
        Both(work.teacher, None), watched, {"train": Pairs(work.rows)}, configuration, torch.device("cpu"),
        None, False, 1.0,
    )  # fmt: skip
    box.teacher_model.eval()
    box.student_model.train()
    for batch, targets, supplement in box.train_data_loader:
        box.pre_forward_process()
        loss = box.forward_process(batch, targets, supplement)
        done.append(Done(float(loss.detach()), int(targets["attention_mask"].sum())))
        box.post_forward_process(loss)


class Pairs(Rows):
    """Rows as torchdistill takes them: of two parts, a sample and a target."""

    def __getitem__(self, number: int) -> Any:
        return self.rows[number], 0


def bare(work: Work, gate: Gate, done: list[Done], *, micro: Callable[[list[int]], list[list[int]]]) -> None:
    """No toolkit: the models of transformers in a loop, a batch cut into `micro` batches whose gradient is the same."""
    student, projections = work.student().train(), work.projections()
    trained = [*student.parameters(), *(() if projections is None else projections.parameters())]
    optimizer = torch.optim.AdamW(trained, lr=work.rate, weight_decay=0.0, fused=True)
    for rows in gate:
        parts = [collate([work.rows[number] for number in part]) for part in micro(rows)]
        tokens, pairs = (
            sum(int((part["attention_mask"].sum(1) ** power).sum()) for part in parts) for power in (1, 2)
        )  # fmt: skip
        value = 0.0
        for part in parts:
            mask = part["attention_mask"]
            given = {"input_ids": part["input_ids"], "attention_mask": mask}
            with torch.no_grad():
                taught = work.teacher(**given)
            learnt = student(**given)
            loss = soft(learnt.logits, taught.logits, work.temperature) * (len(mask) / len(rows))
            for number, (above, below) in enumerate(work.layers):
                mine, theirs = learnt.hidden_states[below], taught.hidden_states[above]
                seen = mine if projections is None else projections[number](mine)
                loss = loss + hidden(seen, theirs, mask) * (int(mask.sum()) / tokens)
                loss = loss + relations(mine, theirs, mask) * (int((mask.sum(1) ** 2).sum()) / pairs)
            loss.backward()
            value += float(loss.detach())
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        done.append(Done(value, tokens))


def of_folder(folder: Path) -> nn.Module:
    """A saved classifier that returns its hidden states."""
    from transformers import AutoModelForSequenceClassification

    model: nn.Module = AutoModelForSequenceClassification.from_pretrained(folder, output_hidden_states=True)
    return model
