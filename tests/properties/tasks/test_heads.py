"""Heads are known by their kind: one of a package's own, and none at all, from a spec to a trained student."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from torch import nn

from kdspec import (
    Batch,
    BuiltTask,
    Component,
    Evaluator,
    Head,
    Mean,
    Metric,
    Model,
    ModelFacts,
    Task,
    hookimpl,
)
from kdspec.data.answers.same_answers import share_of_same
from kdspec.diagnostics.finding import FindingError
from kdspec.events import Evaluated, StageFinished, StepDone
from kdspec.testing import tiny

CANDIDATES, LENGTH, VOCABULARY = 3, 4, 9


class Ranks(BuiltTask):
    """Rows of a query and candidates; the first one is right, and all candidates of a batch are one tensor."""

    def __init__(self, seed):
        self.head = Head(kind="own_ranking")
        self.seed = seed

    def rows(self, split):
        return {"train": 12, "validation": 6}.get(split, 0)

    def encode(self, split, readers):
        generator = torch.Generator().manual_seed(self.seed + len(split))
        query = torch.randint(1, VOCABULARY, (self.rows(split), LENGTH), generator=generator)
        others = torch.randint(1, VOCABULARY, (self.rows(split), CANDIDATES - 1, LENGTH), generator=generator)
        candidates = torch.cat([query[:, None].roll(1, -1), others], 1)
        rows = [{"query": q, "candidates": c} for q, c in zip(query, candidates, strict=True)]
        return [rows for _ in readers]

    def collate(self, rows, reader):
        inputs = {
            "candidates": torch.cat([row["candidates"] for row in rows]),
            "query": torch.stack([row["query"] for row in rows]),
        }
        return Batch(inputs={"": inputs}, targets={"right": torch.zeros(len(rows), dtype=torch.long)})

    def hard_loss(self, features, batch):
        scores, right = features.logits[0].dense(), batch.targets["right"]
        total = nn.functional.cross_entropy(scores, right, reduction="sum")
        return {"right": Mean(total, float(len(right)))}

    def evaluator(self, split):
        return FirstIsBest()


class FirstIsBest(Evaluator):
    """How far down the right candidate is, on average: 0 where it is the best."""

    primary = Metric("rank", higher_is_better=False)
    agrees_on = "queries with the same first candidate"

    def add(self, features, batch):
        scores = features.logits[0].dense()
        return {"ranks": (scores > scores[:, :1]).sum(1), "rows": torch.tensor(batch.rows), "first": scores.argmax(1)}

    def agreement(self, states, reference):
        return share_of_same(states, reference, "first")

    def merge(self, states):
        return {"rank": torch.cat([state["ranks"] for state in states]).double().mean().item()}


class Ranking(Task):
    """Ranks candidates."""

    name = "own_ranking"
    head = "own_ranking"
    logits = "classes"
    seed: int = 0
    """Of the rows."""

    def adaptor(self):
        return {"logits": "output.scores", "labels": "batch.right"}

    def metric_names(self):
        return ("rank",)

    def build(self, context):
        return Ranks(self.seed)


class TwoTowers(Model):
    """Scores candidates by their similarity to a query, for a head of the kind `own_ranking`."""

    name = "two_towers"
    width: int = 6
    """Of the vectors."""

    def facts(self, context):
        return ModelFacts(width=self.width)

    def build(self, context):
        if context.head is None or context.head.kind != "own_ranking":
            raise ValueError(f"no head for {context.head}")

        class Towers(nn.Module):
            def __init__(self, width):
                super().__init__()
                self.vectors = nn.Embedding(VOCABULARY, width)

            def forward(self, query, candidates):
                states = self.vectors(query).mean(1)
                others = self.vectors(candidates).mean(1).view(len(query), -1, states.shape[-1])
                return {"scores": (others @ states[:, :, None]).squeeze(-1), "states": states}

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(sum(context.name.encode()))
            return Towers(self.width)


class Package:
    @hookimpl
    def kdspec_components(self) -> list[type[Component]]:
        return [Ranking, TwoTowers]


RANKING = """\
kdspec: 1
name: ranking
seed: 3
tasks: {search: {own_ranking: {}}}
models: {teacher: {two_towers: {width: 16}}, student: {two_towers: {}}}
stages:
  fine_tune:
    distiller: {supervised: {model: teacher}}
    training: {epochs: 20, batch_size: 6, optimizer: {adamw: {lr: 0.05}}}
  distil:
    distiller:
      general: {teacher: teacher, student: student, soft_labels: {loss: kl, temperature: 2}, hard_labels: {weight: 0.5}}
    training: {epochs: 10, batch_size: 2, accumulate: 3, log_every: 1, optimizer: {adamw: {lr: 0.05}}, evaluate: {every_epochs: 1}}
"""


def test_a_task_and_a_model_of_a_package_have_a_head_of_their_own_kind(launch):
    ran = launch(text=RANKING, plugins=[Package()])
    steps = [step for step in ran.of(StepDone) if step.stage == "distil"]
    assert steps[-1].loss < steps[0].loss
    assert {step.rows for step in steps} == {6}
    evaluations = [event for event in ran.of(Evaluated) if event.stage == "distil"]
    assert {*evaluations[0].metrics} == {"rank", "loss"}
    ends = {end.stage: end for end in ran.of(StageFinished)}
    assert ends["distil"].metrics["rank"] == min(event.metrics["rank"] for event in evaluations)
    table = {row.model: row for row in ran.result.table}
    assert table["student"].metrics["rank"] < 1
    assert 0 <= table["student"].agreement <= 1
    assert table["student"].agrees_on == "queries with the same first candidate"
    assert (table["student"].selected_by, table["student"].lower_is_better) == ("rank", ["rank", "loss"])


def test_a_transformers_model_has_no_head_of_that_kind(launch, tmp_path):
    tiny(tmp_path / "encoder", layers=1, width=16)
    models = "models={teacher: {two_towers: {}}, student: {transformers: {path: encoder}}}"
    with pytest.raises(FindingError) as caught:
        launch(models, text=RANKING, plugins=[Package()])
    assert "a transformers model has no head for `own_ranking`" in str(caught.value.findings)


COLUMNS = """\
kdspec: 1
name: columns
seed: 3
tasks:
  encoded: {tensors: {data: {json: {train: train.jsonl}}, columns: [input_ids, attention_mask]}}
models:
  teacher: {transformers: {path: teacher}}
  student:
    transformers: {like: teacher, config: {num_hidden_layers: 1, hidden_dropout_prob: 0.0, attention_probs_dropout_prob: 0.0}}
adaptors:
  teacher: &paths {hidden: output.hidden_states, inputs_mask: batch.attention_mask}
  student: *paths
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {weight: 0}
        matches: [{feature: hidden, loss: hidden_mse, layers: uniform}]
    training: {epochs: 12, batch_size: 4, log_every: 1, optimizer: {adamw: {lr: 0.01}}}
"""


def test_a_transformers_model_learns_columns_that_are_encoded_already(launch, tmp_path):
    """Without a head it is the bare model."""
    tiny(tmp_path / "teacher", layers=2, width=16)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "teacher")
    texts = ["a good film", "dull", "the plot was thin", "nice", "very bad", "good", "so so", "x"]
    encoded = tokenizer(texts, padding=True)
    with (tmp_path / "train.jsonl").open("w") as file:
        for ids, mask in zip(encoded["input_ids"], encoded["attention_mask"], strict=True):
            file.write(json.dumps({"input_ids": ids, "attention_mask": mask, "note": "passed over"}) + "\n")
    ran = launch(text=COLUMNS)
    steps = ran.of(StepDone)
    assert steps[-1].loss < steps[0].loss / 2
    assert sum(step.tokens for step in steps[:2]) == sum(map(sum, encoded["attention_mask"]))
    student = transformers.AutoModel.from_pretrained(ran.folder / "student")
    assert type(student).__name__ == "BertModel"
    assert student.config.num_hidden_layers == 1
