"""What all losses promise: padding and order of rows do not matter, only the student learns, half types are safe."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch._subclasses import FakeTensorMode

from kdspec.ops import attention, features

B, L, D, H = 3, 5, 4, 2
MASK = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 0, 1, 1, 0]])


def of_pairs(loss, **settings):
    return lambda s, t, mask=None: loss((s, s.roll(1, -1)), (t, t.roll(2, -1)), mask, **settings)


def probabilities(loss, **settings):
    return lambda s, t, mask=None: loss(s.softmax(-1), t.softmax(-1), mask, **settings)


HIDDEN = {
    "hidden_mse": features.hidden_mse,
    "cosine": features.cosine,
    "pkd": features.pkd,
    "fsp": of_pairs(features.fsp),
    "mmd": of_pairs(features.mmd),
}
MAPS = {
    "attention_mse": attention.attention_mse,
    "attention_mse_sum": attention.attention_mse_sum,
    "attention_ce": attention.attention_ce,
    "attention_ce_mean": attention.attention_ce_mean,
}
SCORES = {
    "attention_ce_of_scores": partial(attention.attention_ce, from_scores=True, clip_negative=True),
    "attention_ce_mean_of_scores": partial(attention.attention_ce_mean, from_scores=True, clip_negative=True),
    "attention_mse_clipped": partial(attention.attention_mse, clip_negative=True),
    "attention_mse_sum_clipped": partial(attention.attention_mse_sum, clip_negative=True),
}
UNITS = {"pkd": "rows", "fsp": "rows", "hidden_mse": "tokens", "cosine": "tokens", "mmd": "pairs"}

UNCLIPPED = [pytest.param(name, loss, (B, L, D), id=name) for name, loss in HIDDEN.items()] + [
    pytest.param(name, probabilities(loss), (B, H, L, L), id=name) for name, loss in MAPS.items()
]
CLIPPED = [pytest.param(name, loss, (B, H, L, L), id=name) for name, loss in SCORES.items()]
masked_losses = pytest.mark.parametrize(("name", "loss", "shape"), UNCLIPPED + CLIPPED)


def inputs(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(7)
    student, teacher = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return student.to(dtype).requires_grad_(), teacher.to(dtype).requires_grad_()


def masked_out(shape, *, keys=True):
    kept = MASK.bool()
    if len(shape) == 3:
        return ~kept[..., None].expand(shape)
    return ~(kept[:, None, :, None] & (kept[:, None, None, :] | (not keys))).expand(shape)


@masked_losses
@pytest.mark.parametrize("mask", [None, MASK, MASK.double()], ids=["no mask", "integers", "floats"])
def test_the_gradient_is_that_of_the_value_and_only_the_student_has_one(name, loss, shape, mask):
    student, teacher = inputs(*shape)
    mean = loss(student, teacher, mask)
    assert mean.total.ndim == 0
    mean.value.backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher.detach(), mask).value, student)


@masked_losses
@pytest.mark.parametrize("garbage", [1e4, float("inf"), float("nan")])
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_what_is_masked_reaches_neither_value_nor_gradient(name, loss, shape, garbage, side):
    if name in MAPS:
        loss = MAPS[name]  # garbage after the softmax, which would spread it
    student, teacher = (x.detach().softmax(-1) if name in MAPS else x.detach() for x in inputs(*shape))
    student.requires_grad_()
    clean = loss(student, teacher, MASK).value
    (expected,) = torch.autograd.grad(clean, student)

    where = masked_out(shape, keys="of_scores" not in name)
    dirty_student, dirty_teacher = student.detach().clone(), teacher.clone()
    (dirty_student if side == "student" else dirty_teacher)[where] = garbage
    dirty_student.requires_grad_()
    value = loss(dirty_student, dirty_teacher, MASK).value
    (gradient,) = torch.autograd.grad(value, dirty_student)

    torch.testing.assert_close(value, clean, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=0)
    assert not gradient[where].any()


@masked_losses
def test_more_padding_changes_nothing(name, loss, shape):
    student, teacher = (x.detach() for x in inputs(*shape))
    filling = -1e4 if name in SCORES else 0.0
    axes = (0, 0, 0, 2) if len(shape) == 3 else (0, 2, 0, 2)
    if name in MAPS:
        loss, student, teacher = MAPS[name], student.softmax(-1), teacher.softmax(-1)
    if name in SCORES:
        student, teacher = (x.masked_fill(masked_out(shape), filling) for x in (student, teacher))
    longer = [torch.nn.functional.pad(x, axes, value=filling) for x in (student, teacher)]
    expected = loss(student, teacher, MASK)
    actual = loss(*longer, torch.nn.functional.pad(MASK, (0, 2)))
    torch.testing.assert_close(actual.value, expected.value, rtol=1e-12, atol=0)
    assert float(actual.count) == float(expected.count)


@masked_losses
def test_the_order_of_rows_does_not_matter(name, loss, shape):
    student, teacher = (x.detach() for x in inputs(*shape))
    order = [2, 0, 1]
    torch.testing.assert_close(
        loss(student[order], teacher[order], MASK[order]).value, loss(student, teacher, MASK).value
    )


@masked_losses
def test_a_batch_is_the_sum_of_its_parts(name, loss, shape):
    student, teacher = (x.detach() for x in inputs(*shape))
    whole = loss(student, teacher, MASK)
    parts = [loss(student[i : i + 1], teacher[i : i + 1], MASK[i : i + 1]) for i in range(B)]
    torch.testing.assert_close(sum(part.total for part in parts), whole.total)
    assert sum(float(part.count) for part in parts) == float(whole.count)


@masked_losses
def test_a_count_is_proportional_to_its_unit(name, loss, shape):
    student, teacher = inputs(*shape)
    lengths = [3, 3, 3]
    unit = UNITS.get(name) or ("pairs" if "mse" in name else "tokens")
    counts = {"rows": (B, B), "tokens": (B * L, sum(lengths)), "pairs": (B * L * L, sum(n * n for n in lengths))}
    bare, masked = loss(student, teacher), loss(student, teacher, MASK)
    assert (bare.per, masked.per) == (unit, unit)
    assert (float(bare.count), float(masked.count)) == counts[unit]


@pytest.mark.parametrize(("name", "loss", "shape"), UNCLIPPED)
def test_a_mask_of_ones_is_no_mask(name, loss, shape):
    student, teacher = inputs(*shape)
    torch.testing.assert_close(loss(student, teacher, torch.ones(B, L)).value, loss(student, teacher).value)


@masked_losses
def test_a_row_without_tokens_adds_nothing(name, loss, shape):
    student, teacher = inputs(*shape)
    mask = MASK.clone()
    mask[1] = 0
    mean = loss(student, teacher, mask)
    torch.testing.assert_close(mean.total, loss(student[[0, 2]], teacher[[0, 2]], mask[[0, 2]]).total)
    empty = loss(student, teacher, torch.zeros_like(MASK)).value
    (gradient,) = torch.autograd.grad(empty, student)
    assert empty == 0
    assert not gradient.any()


@masked_losses
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "masked"])
def test_large_numbers_of_a_half_type_are_finite(name, loss, shape, dtype, mask):
    student, teacher = (x.detach().mul(1e4) for x in inputs(*shape))
    student = student.to(dtype).requires_grad_()
    mean = loss(student, teacher.to(dtype), mask)
    mean.value.backward()
    assert mean.total.dtype == torch.float32
    assert mean.value.isfinite()
    if name in {"fsp", "mmd"} and dtype == torch.float16:
        return  # the gradient of a product of products is larger than any number of that type
    assert student.grad.isfinite().all()


@masked_losses
def test_autocast_does_not_narrow_a_loss(name, loss, shape):
    student, teacher = inputs(*shape, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = loss(student, teacher, MASK)
    assert torch.equal(narrow.value, loss(student, teacher, MASK).value)


@pytest.mark.slow
@masked_losses
@pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "masked"])
def test_nothing_waits_for_the_device(name, loss, shape, mask):
    """A fake tensor has no values, so it fails whatever would read one."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        student, teacher = torch.randn(shape, requires_grad=True), torch.randn(shape)
        loss(student, teacher, mask).value.backward()
    assert student.grad.shape == shape


@masked_losses
def test_the_meta_device_gives_shapes(name, loss, shape):
    student, teacher, mask = (torch.empty(size, device="meta") for size in (shape, shape, (B, L)))
    assert loss(student, teacher, mask).value.shape == ()


@masked_losses
def test_a_teacher_of_inference_mode_will_do(name, loss, shape):
    student, teacher = inputs(*shape)
    expected = loss(student, teacher, MASK).value
    with torch.inference_mode():
        teacher = teacher.detach().clone()
    value = loss(student, teacher, MASK).value
    value.backward()
    assert torch.equal(value, expected)


@masked_losses
def test_shapes_that_differ_are_not_broadcast(name, loss, shape):
    student, teacher = inputs(*shape)
    with pytest.raises(AssertionError, match=r"shape \(3, .*shape \(1, "):
        loss(student, teacher[:1])
    with pytest.raises(AssertionError, match="does not fit"):
        loss(student, teacher, MASK[:, :3])
