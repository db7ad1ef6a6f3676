"""The test suite for losses: the properties that the engine relies on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.losses import FeatureLoss, LogitLoss
from kdspec.testing.component_suite import check_class

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from kdspec.ops.mean import Mean

    Sides = tuple[Tensor, ...]

ROWS, CLASSES, LENGTH, WIDTH, HEADS = 5, 4, 6, 8, 2
LENGTHS = (6, 4, 3, 5, 1)
TOLERANCE = 1e-5


def check_loss(
    component: LogitLoss | FeatureLoss,
    *,
    feature: Literal["hidden", "attention", "embedding"] | None = None,
    zero_at_equality: bool = False,
    non_negative: bool = False,
) -> None:
    """Check that a loss has the properties that the engine relies on.

    - The class and its parameters are documented, its defaults are valid, its serialised form can be parsed, and its
      module does not import torch.
    - The loss is a scalar, or a `Mean` with a total and a count that add up over the batch.
    - It is finite for extreme inputs in float32 and bfloat16.
    - Its gradient is correct, and goes to the student alone.
    - It does not depend on the order of the batch nor, for a feature loss, on padding.
    - A loss of scores does not depend on candidates that are not there, -inf on both sides.
    - A loss that `packs` gives the same value for packed tokens, and one that `reduces` for reduced teacher features.

    Args:
        component: the loss with its parameters.
        feature: the kind of feature that a feature loss compares: hidden states, attention maps, or embeddings, one vector
            a row. Default: the class's `feature`, or `hidden`. A loss with `vectors` is tried with embeddings too.
        zero_at_equality: whether to check that it is 0 if student and teacher are equal.
        non_negative: whether to check that it is never negative.

    Raises:
        AssertionError: a check fails; the message names it.
    """
    check_class(component)
    tried = feature or (isinstance(component, FeatureLoss) and component.feature) or "hidden"
    _check(_Trial(component, tried), zero_at_equality=zero_at_equality, non_negative=non_negative)
    if feature is None and isinstance(component, FeatureLoss) and component.vectors:
        _check(_Trial(component, "embedding"), zero_at_equality=zero_at_equality, non_negative=non_negative)


def _check(trial: _Trial, *, zero_at_equality: bool, non_negative: bool) -> None:
    component = trial.component
    _check_result(trial)
    _check_finite(trial)
    _check_gradient(trial)
    _check_order(trial)
    if isinstance(component, LogitLoss):
        _check_temperatures(trial)
        if "scores" in component.compares:
            _check_candidates(trial)
    elif trial.feature == "embedding":
        _check_unmasked(trial)
    else:
        _check_padding(trial)
        if component.packs():
            _check_packed(trial)
        if component.reduces() is not None:
            _check_reduced(trial, component.reduces())
    if zero_at_equality:
        _check_zero(trial)
    if non_negative:
        _check_sign(trial)


@dataclass(frozen=True)
class _Inputs:
    """The arguments of one call."""

    student: Sides
    """One tensor, or two if the loss takes two layers."""
    teacher: Sides
    others: Mapping[str, Any]
    """The keyword arguments."""

    def rows(self, index: Tensor) -> _Inputs:
        """These rows of every argument."""
        others = {key: value[index] if hasattr(value, "shape") else value for key, value in self.others.items()}
        return _Inputs(tuple(t[index] for t in self.student), tuple(t[index] for t in self.teacher), others)


@dataclass(frozen=True)
class _Trial:
    """A loss, and inputs for it."""

    component: LogitLoss | FeatureLoss
    feature: str

    @property
    def arity(self) -> int:
        return 1 if isinstance(self.component, LogitLoss) else self.component.arity

    def fail(self, reason: str) -> AssertionError:
        return AssertionError(f"{self.component.words()} `{self.component.name}`: {reason}")

    def inputs(self, seed: int = 0, dtype: torch.dtype | None = None, scale: float = 1.0) -> _Inputs:
        """Random inputs, the same for the same seed."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        dtype = dtype or torch.float32

        def normal(*shape: int) -> Tensor:
            return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)

        if isinstance(self.component, LogitLoss):
            others: dict[str, Any] = {"temperature": 2.0}
            if self.component.needs_labels or self.component.takes_labels:
                labels = torch.randint(CLASSES, (ROWS,), generator=generator)
                # One of the rows has no label.
                others["labels"] = torch.where(torch.arange(ROWS) == 1, -100, labels)
            return _Inputs((normal(ROWS, CLASSES),), (normal(ROWS, CLASSES),), others)
        mask = (torch.arange(LENGTH) < torch.tensor(LENGTHS)[:, None]).long()
        if self.feature == "attention":
            heads = HEADS if self.component.same_heads else 2 * HEADS
            student, teacher = (
                tuple(normal(ROWS, number, LENGTH, LENGTH).softmax(-1) for _ in range(self.arity))
                for number in (HEADS, heads)
            )
        else:
            width = WIDTH if self.component.same_width else WIDTH + 2
            rows = (ROWS,) if self.feature == "embedding" else (ROWS, LENGTH)
            student, teacher = (tuple(normal(*rows, number) for _ in range(self.arity)) for number in (WIDTH, width))
        return _Inputs(student, teacher, {"mask": mask})

    def result(self, inputs: _Inputs) -> Tensor | Mean:
        """The return value of the loss."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            loss: Callable[..., Tensor | Mean] = self.component.build(BuildContext())
        if isinstance(loss, torch.nn.Module) and inputs.student[0].dtype == torch.float64:
            loss.double()
        one = self.arity == 1
        student, teacher = (side[0] if one else side for side in (inputs.student, inputs.teacher))
        return loss(student, teacher, **inputs.others)

    def value(self, inputs: _Inputs) -> Tensor:
        """The loss as one number."""
        import torch

        result = self.result(inputs)
        return result if isinstance(result, torch.Tensor) else result.value

    def number(self, inputs: _Inputs) -> float:
        """The loss as a float."""
        return float(self.value(inputs).detach())

    def gradients(self, inputs: _Inputs) -> tuple[Tensor, Sides, Sides]:
        """The value and its gradients with respect to student and teacher; zeros without a gradient."""
        import torch

        student, teacher = (
            tuple(t.detach().clone().requires_grad_() for t in side) for side in (inputs.student, inputs.teacher)
        )
        value = self.value(replace(inputs, student=student, teacher=teacher))
        if not value.requires_grad:
            raise self.fail("it gives the student no gradient")
        found = torch.autograd.grad(value, (*student, *teacher), allow_unused=True, materialize_grads=True)
        return value.detach(), found[: len(student)], found[len(student) :]


def _check_result(trial: _Trial) -> None:
    import torch

    from kdspec.ops.mean import Mean

    inputs = trial.inputs()
    result = trial.result(inputs)
    if not isinstance(result, (torch.Tensor, Mean)):
        raise trial.fail(f"it returns a {type(result).__name__}, not a tensor or `Mean`")
    if isinstance(result, torch.Tensor):
        if result.ndim:
            raise trial.fail(f"it returns a tensor of shape {tuple(result.shape)}, not a scalar")
        if trial.component.scope in ("position", "row"):
            raise trial.fail(
                f"it gives a scalar, so its scope is not `{trial.component.scope}`; that of a `Mean` may be"
            )
        return
    parts = [trial.result(inputs.rows(torch.arange(ROWS)[part])) for part in (slice(2), slice(2, None))]
    for name in ("total", "count"):
        whole, *halves = (float(torch.as_tensor(getattr(mean, name)).detach()) for mean in (result, *parts))
        added = sum(halves)
        if not _close(whole, added):
            raise trial.fail(
                f"the {name} of its `Mean` is {whole:g} for a batch and {added:g} for the sum of its halves"
            )


def _check_finite(trial: _Trial) -> None:
    import torch

    for dtype in (torch.float32, torch.bfloat16):
        for scale in (0.0, 1.0, 1e4 if isinstance(trial.component, LogitLoss) else 1e3):
            for inputs in _with_few_labels(trial.inputs(dtype=dtype, scale=scale)):
                value, gradients, _ = trial.gradients(inputs)
                seen = f"inputs of size {scale:g} in {str(dtype).removeprefix('torch.')}"
                if not value.isfinite():
                    raise trial.fail(f"it is {value.item()} for {seen}")
                if not all(gradient.isfinite().all() for gradient in gradients):
                    raise trial.fail(f"its gradient is not finite for {seen}")


def _with_few_labels(inputs: _Inputs) -> Iterator[_Inputs]:
    yield inputs
    if "labels" in inputs.others:
        unlabelled = inputs.others["labels"].new_full((ROWS,), -100)
        yield replace(inputs, others={**inputs.others, "labels": unlabelled})


def _check_gradient(trial: _Trial) -> None:
    import torch
    from torch.autograd.gradcheck import GradcheckError

    _, to_student, to_teacher = trial.gradients(trial.inputs())
    if not any(gradient.any() for gradient in to_student):
        raise trial.fail("it gives the student no gradient")
    if any(gradient.any() for gradient in to_teacher):
        raise trial.fail("it gives the teacher a gradient; `teacher.detach()` stops it")
    # gradcheck differentiates each input element numerically; two rows are enough, and much faster than all.
    inputs = trial.inputs(dtype=torch.float64).rows(torch.arange(2))
    student = tuple(tensor.requires_grad_() for tensor in inputs.student)
    if (computed := trial.value(inputs).dtype) != torch.float64:
        advice = "compute in `torch.promote_types(x.dtype, torch.float32)` in place of `x.float()`"
        raise trial.fail(f"it computes in {computed} from float64, in which its gradient is checked; {advice}")
    try:
        torch.autograd.gradcheck(lambda *tensors: trial.value(replace(inputs, student=tensors)), student)
    except GradcheckError as error:
        raise trial.fail(f"its gradient differs from the numerical one: {error}") from None


def _check_order(trial: _Trial) -> None:
    import torch

    inputs = trial.inputs()
    value, turned = (trial.number(i) for i in (inputs, inputs.rows(torch.arange(ROWS).flip(0))))
    if not _close(value, turned):
        raise trial.fail(f"it depends on the order of the batch: {value:g} and {turned:g}")


def _check_temperatures(trial: _Trial) -> None:
    import torch

    inputs = trial.inputs()
    each = {**inputs.others, "temperature": torch.full((ROWS,), 2.0)}
    one, many = trial.number(inputs), trial.number(replace(inputs, others=each))
    if not _close(one, many):
        raise trial.fail(f"the temperature 2 gives {one:g}, and {many:g} as a tensor with one temperature per row")


def _check_candidates(trial: _Trial) -> None:
    import torch
    from torch.nn import functional

    inputs = trial.inputs()
    value, (gradient,), _ = trial.gradients(inputs)
    wider = replace(
        inputs,
        student=(functional.pad(inputs.student[0], (0, 2), value=-torch.inf),),
        teacher=(functional.pad(inputs.teacher[0], (0, 2), value=-torch.inf),),
    )
    found, (of_wider,), _ = trial.gradients(wider)
    if not _close(float(value), float(found)):
        raise trial.fail(f"it depends on candidates that are not there: {float(value):g} and {float(found):g}")
    if not all(map(_close, functional.pad(gradient, (0, 2)).flatten().tolist(), of_wider.flatten().tolist())):
        raise trial.fail("its gradient depends on candidates that are not there, or they have one")


def _check_padding(trial: _Trial) -> None:
    inputs = trial.inputs()
    mask = inputs.others["mask"]
    value, gradients, _ = trial.gradients(inputs)
    square = trial.feature == "attention"
    kept = mask[:, None, :, None] * mask[:, None, None, :] if square else mask[..., None]
    for tensor in gradients:
        if (tensor * (1 - kept)).any():
            raise trial.fail("it gives padding a gradient")
    other = replace(
        inputs,
        student=tuple(tensor * kept + 7 * (1 - kept) for tensor in inputs.student),
        teacher=tuple(tensor * kept - 9 * (1 - kept) for tensor in inputs.teacher),
    )
    longer = replace(
        inputs,
        student=tuple(_longer(tensor, square=square) for tensor in inputs.student),
        teacher=tuple(_longer(tensor, square=square) for tensor in inputs.teacher),
        others={"mask": _longer(mask[..., None], square=False)[..., 0]},
    )
    for what, changed in (("the values at padding", other), ("the amount of padding", longer)):
        found = trial.number(changed)
        if not _close(float(value), found):
            raise trial.fail(f"it depends on {what}: {float(value):g} and {found:g}")


def _check_unmasked(trial: _Trial) -> None:
    inputs = trial.inputs()
    masked, unmasked = trial.number(inputs), trial.number(replace(inputs, others={"mask": None}))
    if masked != unmasked:
        raise trial.fail(f"it depends on the mask of the tokens, {masked:g} and {unmasked:g}, and compares whole rows")


def _check_packed(trial: _Trial) -> None:
    inputs = trial.inputs()
    kept = inputs.others["mask"] != 0
    value, gradients, _ = trial.gradients(inputs)
    packed = _Inputs(
        tuple(tensor[kept] for tensor in inputs.student),
        tuple(tensor[kept] for tensor in inputs.teacher),
        {"lengths": list(LENGTHS)},
    )
    found, of_packed, _ = trial.gradients(packed)
    if not _close(float(value), float(found)):
        raise trial.fail(f"packed tokens give {float(found):g}, padded ones {float(value):g}")
    for one, other in zip(gradients, of_packed, strict=True):
        if not all(map(_close, one[kept].flatten().tolist(), other.flatten().tolist())):
            raise trial.fail("the gradients of packed and padded tokens differ")


def _check_reduced(trial: _Trial, reduction: str | None) -> None:
    from kdspec.ops.features import first_token, similarity
    from kdspec.ops.mean import Mean

    inputs = trial.inputs()
    first, last = inputs.teacher[0], inputs.teacher[-1]
    enough = first_token(first, inputs.others["mask"]) if reduction == "first" else similarity((first, last))
    one = trial.arity == 1
    loss: Callable[..., Tensor | Mean] = trial.component.build(BuildContext())
    found = loss(inputs.student[0] if one else inputs.student, enough, **inputs.others)
    value, given = trial.number(inputs), float((found.value if isinstance(found, Mean) else found).detach())
    if not _close(value, given):
        raise trial.fail(f"reduced teacher features give {given:g}, whole layers {value:g}")


def _longer(tensor: Tensor, *, square: bool) -> Tensor:
    from torch.nn import functional

    return functional.pad(tensor, (0, 3, 0, 3) if square else (0, 0, 0, 3))


def _check_zero(trial: _Trial) -> None:
    inputs = trial.inputs()
    found = trial.number(replace(inputs, teacher=inputs.student))
    if abs(found) > TOLERANCE:
        raise trial.fail(f"it is {found:g}, not 0, for equal student and teacher")


def _check_sign(trial: _Trial) -> None:
    for seed in range(20):
        found = trial.number(trial.inputs(seed))
        if found < -TOLERANCE:
            raise trial.fail(f"it is negative: {found:g}")


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= TOLERANCE * max(1.0, abs(one), abs(other))
