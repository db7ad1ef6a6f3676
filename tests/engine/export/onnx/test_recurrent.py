"""GRUs as the operator of ONNX: any length, any number of rows, several layers, both directions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdspec.engine.export.onnx.graph import quiet
from kdspec.engine.export.onnx.recurrent import OnnxGru, with_onnx_layers


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2, "batch_first": False}], ids=str)
def test_the_operator_gives_what_the_layer_gives(options, tmp_path):
    import onnxruntime

    torch.manual_seed(0)
    gru = nn.GRU(5, 7, **{"batch_first": True} | options)

    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = gru

        def forward(self, states):
            return self.gru(states)

    made = with_onnx_layers(Module()).eval()
    axes = {0: torch.export.Dim("one"), 1: torch.export.Dim("two")}
    with quiet():
        torch.onnx.export(
            made, (torch.randn(2, 6, 5),), str(tmp_path / "a.onnx"), input_names=["states"], output_names=["all", "last"],
            dynamic_shapes={"states": axes}, dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"))
    for shape in ((2, 6, 5), (1, 1, 5), (4, 11, 5)):
        states = torch.randn(shape)
        for mine, theirs in zip(gru(states), session.run(None, {"states": states.numpy()}), strict=True):
            torch.testing.assert_close(torch.from_numpy(theirs), mine.detach(), atol=1e-6, rtol=1e-5)


def test_the_model_itself_keeps_its_layers():
    module = nn.Sequential(nn.GRU(2, 3))
    made = with_onnx_layers(module)
    assert isinstance(made.get_submodule("0"), OnnxGru)
    assert isinstance(module[0], nn.GRU)
    plain = nn.Sequential(nn.Linear(2, 3))
    assert with_onnx_layers(plain) is plain
