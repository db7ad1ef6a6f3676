"""An error points at the value at fault, and not at what is around it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdspec.testing import check

FOLDER = Path(__file__).parents[2] / "diagnostics"
FINE = (FOLDER / "fine.yaml").read_text(encoding="utf-8")
TASK, STAGE = "tasks.reviews.sequence_classification", "stages.distil"
AUGMENT = f"{TASK}.augment"


@pytest.mark.parametrize(
    ("value", "at"),
    [
        (f"{STAGE}.training={{epochs: 1, batching: sorted_micro_batches, normalize: micro_batch}}", "micro_batch"),
        (f"{STAGE}.training={{epochs: 1, batching: length_grouped, shuffle: false}}", "false"),
        (f"{STAGE}.training={{epochs: 1, batching: {{by: random, tokens: 512}}}}", "512"),
        (f"{AUGMENT}=[{{n_gram_sampling: {{lengths: [1, 2], probabilities: [0.5, 0.6]}}}}]", "[0.5, 0.6]"),
        (f"{AUGMENT}=[{{n_gram_sampling: {{lengths: [1, 2, 3], probabilities: [0.5, 0.5]}}}}]", "[0.5, 0.5]"),
        (f"{AUGMENT}=[{{short_disorder: {{probabilities: [1, 1, 0, 0, 0]}}}}]", "[1, 1, 0, 0, 0]"),
        ("models.student={textcnn: {tokenizer: a/b, kernels: [3, -4, 5]}}", "-4"),
        (f"{TASK}.data={{csv: {{train: ../data/tiny/reviews.csv, validation: 0.4, test: 0.6}}}}", "0.6"),
        (f"{TASK}.data={{hub: {{path: a/b, splits: {{train: train, validation: 0.5, test: 0.5}}}}}}", "0.5}}"),
        (f"{STAGE}.distiller.general.matches[0].layers={{123456: 1}}", "123456"),
        (f"{STAGE}.distiller.general.matches[0].layers={{1: 123456}}", "123456"),
        (f"{STAGE}.training.optimizer={{sgd: {{nesterov: true}}}}", "true"),
    ],
)
def test_the_place_of_an_error_is_the_narrowest(value, at):
    found = [error for error in check(FINE, folder=FOLDER, sets=[value]).errors if error.code == "KD104"]
    (error,) = found
    span = error.primary.span
    assert (span.file, span.column) == ("--set", value.rindex(at))
    assert span.end_column - span.column == len(at.rstrip("}"))
