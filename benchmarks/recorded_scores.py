"""Rows with recorded scores: questions of SquadShifts, each with its paragraph, others that a bi-encoder finds, and its scores.

`python benchmarks/recorded_scores.py FOLDER` writes `train.jsonl` of 1,800 questions, with four candidates at most. The
negatives are drawn evenly from the teacher's first 50, so that easy and hard ones are among them, and never a paragraph of
the same score or a better one than the question's own. Questions are left out to which the teacher finds no negative so.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent.parent / "specs" / "assets"
ROWS, QUESTIONS, CANDIDATES, FIRST = 1_800, 5_000, 4, 50


def main() -> None:
    """Write the rows."""
    write(Path(sys.argv[1]))


def write(folder: Path) -> None:
    """`train.jsonl` in a folder."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    inner = modules.Transformer(str(ASSETS / "all-MiniLM-L6-v2"), max_seq_length=160)
    pooling = modules.Pooling(inner.get_embedding_dimension(), "mean")
    model = SentenceTransformer(modules=[inner, pooling, modules.Normalize()], device="cpu")
    rows = read("train.jsonl")
    draw = random.Random(0)
    rows = draw.sample(rows, QUESTIONS)
    passages = [row["text"] for row in read("passages.jsonl")]
    documents = model.encode(passages, batch_size=32, convert_to_tensor=True)
    queries = model.encode([row["question"] for row in rows], batch_size=64, convert_to_tensor=True)
    number = {text: place for place, text in enumerate(passages)}
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    with (folder / "train.jsonl").open("w", encoding="utf-8") as file:
        for row, scores in zip(rows, queries @ documents.T, strict=True):
            own = number[row["positive"]]
            found = [
                place for place in torch.topk(scores, FIRST).indices.tolist() if scores[place] < scores[own] - 0.01
            ]
            chosen = [own, *sorted(draw.sample(found, min(CANDIDATES - 1, len(found))))]
            made: dict[str, Any] = {"question": row["question"], "positive": row["positive"]}
            made |= {
                "documents": [passages[place] for place in chosen],
                "scores": [round(float(scores[place]), 5) for place in chosen],
            }
            if len(chosen) > 1 and written < ROWS:
                written += 1
                file.write(json.dumps(made, ensure_ascii=False) + "\n")


def read(name: str) -> list[dict[str, Any]]:
    """The rows of a file of the asset."""
    with (ASSETS / "squad-retrieval" / name).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


if __name__ == "__main__":
    main()
