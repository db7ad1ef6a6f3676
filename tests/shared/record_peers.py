"""Records what packages for embeddings and reranking make of the scores in `inputs`, with their own code.

    python tests/shared/record_peers.py FOLDER > tests/ops/ranking/peers.json

FOLDER has the unpacked wheels of sentence-transformers, PyLate, ColBERT and FlagEmbedding. Of the last three only the code of
the loss is run: their packages import what is not needed for it.
"""

from __future__ import annotations

import ast
import json
import sys
import textwrap
import types
from pathlib import Path

import torch
from torch import Tensor

ALPHA, TAU = 0.5, 0.02


def inputs() -> tuple[Tensor, Tensor]:
    """Cosines of a student and logits of a cross-encoder, for 4 queries with 5 candidates; the first is the positive."""
    index = torch.arange(20, dtype=torch.float64).reshape(4, 5)
    return torch.sin(0.7 * index + 0.1), 6 * torch.sin(0.9 * index + 0.3)


def of_sentence_transformers() -> dict[str, float]:
    """`MarginMSELoss`, and `DistillKLDivLoss` at its default and at other temperatures."""
    from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss, MarginMSELoss

    student, teacher = inputs()
    columns = [torch.zeros(4, 1), *student.unbind(1)]

    def given(query: Tensor, column: Tensor) -> Tensor:
        return column

    model = torch.nn.Module()
    kl = DistillKLDivLoss(model, similarity_fct=given)
    sides = DistillKLDivLoss(model, similarity_fct=given, student_temperature=0.05, teacher_temperature=2.0)
    margin = MarginMSELoss(model, similarity_fct=given)
    return {
        "margin_mse": margin.compute_loss_from_embeddings(columns, teacher).item(),
        "distill_kl": kl.compute_loss_from_embeddings(columns, teacher).item(),
        "distill_kl at 0.05 and 2": sides.compute_loss_from_embeddings(columns, teacher).item(),
    }


def of_pylate(folder: Path) -> float:
    """`pylate.losses.Distillation` with stubs for the models, on given scores."""
    source = next(folder.rglob("pylate/losses/distillation.py")).read_text(encoding="utf-8")
    student, teacher = inputs()
    package = types.ModuleType("stub")
    names = {"models": {"ColBERT": torch.nn.Module}, "scores": {"colbert_kd_scores": None}}
    names["losses.contrastive"] = {"extract_skiplist_mask": lambda **_: [torch.ones(4, 1), torch.ones(20, 1)]}
    for name, contents in names.items():
        module = types.ModuleType(f"stub.{name}")
        vars(module).update(contents)
        sys.modules[f"stub.{name}"] = module
    sys.modules["stub"], sys.modules["stub.losses"] = package, types.ModuleType("stub.losses")
    made = types.ModuleType("stub.losses.distillation")
    made.__package__ = "stub.losses"
    exec(compile(source, "distillation.py", "exec"), vars(made))

    class Model(torch.nn.Module):
        skiplist: tuple[str, ...] = ()
        do_query_expansion = False

        def forward(self, rows: Tensor) -> dict[str, Tensor]:
            return {"token_embeddings": torch.ones(len(rows), 1, 2)}

    loss = made.Distillation(Model(), score_metric=lambda *_, **__: student)
    return loss([torch.zeros(4), torch.zeros(20)], teacher).item()


def of_colbert(folder: Path, alpha: float) -> float:
    """The lines of `colbert.training.training.train` that make the loss of scores and target scores."""
    lines = next(folder.rglob("colbert/training/training.py")).read_text(encoding="utf-8").splitlines()
    first = next(n for n, line in enumerate(lines) if "target_scores = torch.tensor(target_scores)" in line)
    last = next(n for n, line in enumerate(lines) if "KLDivLoss" in line)
    student, teacher = inputs()
    config = types.SimpleNamespace(nway=5, distillation_alpha=alpha)
    here = {"torch": torch, "config": config, "DEVICE": "cpu", "scores": student, "target_scores": teacher.tolist()}
    exec(textwrap.dedent("\n".join(lines[first : last + 1])), here)
    return here["loss"].item()


def of_flag_embedding(folder: Path) -> float:
    """`AbsEmbedderModel.distill_loss` of `kl_div` for scores divided by 0.02, which `compute_score` does."""
    path = next(folder.rglob("FlagEmbedding/abc/finetune/embedder/AbsModeling.py"))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    function = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "distill_loss")
    function.decorator_list.clear()
    here: dict[str, object] = {"torch": torch, "F": torch.nn.functional}
    exec(compile(ast.Module([function], []), "AbsModeling.py", "exec"), here)
    student, teacher = inputs()
    # The caller takes the softmax of the teacher's scores, at temperature 1.
    return here["distill_loss"]("kl_div", teacher.softmax(-1), student / TAU, 5).item()


def main() -> None:
    """Print the values with the versions."""
    folder = Path(sys.argv[1])
    found = {
        "sentence-transformers 6.2.0": of_sentence_transformers(),
        "pylate 1.6.0": {"distillation": of_pylate(folder)},
        "colbert-ai 0.2.22": {"alpha 1": of_colbert(folder, 1.0), "alpha 0.5": of_colbert(folder, ALPHA)},
        "flagembedding 1.4.2": {"kl_div": of_flag_embedding(folder)},
    }
    print(json.dumps(found, indent=2))  # noqa: T201 - what the script is for


if __name__ == "__main__":
    main()
