"""A plugin with small modules, and losses that go wrong in different ways."""

from __future__ import annotations

from typing import Any

from kdspec import BuildContext, Component, FeatureLoss, LogitLoss, Model, ModelContext, hookimpl


class Net(Model):
    """Embeddings and linear layers; each trait is one thing that can be wrong with a model."""

    name = "net"
    width: int = 4
    """Width of every layer."""
    classes: int = 5
    """Number of classes."""
    longer: int = 0
    """Positions that the hidden states have more than the batch."""
    trait: str = ""
    """What is special."""

    def build(self, context: ModelContext) -> Any:
        import torch
        from torch import nn

        width, classes, longer, trait = self.width, self.classes, self.longer, self.trait
        if trait == "looks at weights":
            assert float(torch.ones(2).sum()) == 2

        class Module(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                size = 20_000_000 if trait == "large and looks" else 1
                self.spare = nn.Parameter(torch.zeros(size))
                self.embeddings = nn.Embedding(30, width)
                self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
                self.out = nn.Linear(width, classes)

            def forward(self, ids: Any, mask: Any) -> dict[str, Any]:
                hidden = [nn.functional.pad(self.embeddings(ids), (0, 0, 0, longer))]
                for layer in self.layers:
                    hidden.append(torch.tanh(layer(hidden[-1])))
                if "looks" in trait and float(mask.sum()) < 0:
                    raise AssertionError
                if trait == "refuses":
                    raise ValueError("not these")
                if trait == "detached":
                    hidden = [states.detach() for states in hidden]
                logits = self.out(hidden[-1].mean(1))
                return {"logits": logits, "hidden": tuple(hidden), "kept": hidden[-1][mask != 0]}

        return Module()


class Looks(FeatureLoss):
    """A loss that looks at values."""

    name = "looks"
    fails: bool = False
    """Whether it does not like what it sees."""

    def build(self, context: BuildContext) -> Any:
        def loss(student: Any, teacher: Any, *, mask: Any) -> Any:
            if float(student.detach().sum()) == float("inf") or self.fails:
                raise ValueError("not these")
            return (student - teacher).square().mean()

        return loss


class Cuts(FeatureLoss):
    """A loss that takes half the width of the student and all that of the teacher."""

    name = "cuts"
    same_width = False

    def build(self, context: BuildContext) -> Any:
        return lambda student, teacher, *, mask: (student[..., ::2] - teacher).square().mean()


class Hides(FeatureLoss):
    """A loss that keeps a parameter where nobody finds it."""

    name = "hides"
    how: str = "list"
    """`list` or `closure`."""

    def build(self, context: BuildContext) -> Any:
        import torch
        from torch import nn

        scale = nn.Parameter(torch.ones(()))

        class Loss(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.kept = [scale]

            def forward(self, student: Any, teacher: Any, *, mask: Any) -> Any:
                return (student - teacher).square().mean() * self.kept[0]

        if self.how == "list":
            return Loss()
        return lambda student, teacher, *, mask: (student - teacher).square().mean() * scale


class Learns(LogitLoss):
    """A loss with a parameter."""

    name = "learns"

    def build(self, context: BuildContext) -> Any:
        import torch
        from torch import nn

        class Loss(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.scale = nn.Parameter(torch.ones(3))

            def forward(self, student: Any, teacher: Any, *, temperature: Any) -> Any:
                return ((student - teacher).square().mean() * self.scale).sum()

        return Loss()


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """All of them."""
    return [Net, Looks, Cuts, Hides, Learns]
