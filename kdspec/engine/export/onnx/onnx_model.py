"""An ONNX file in the place of the model that it was made from, so that tasks and metrics read it as they read that."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from kdspec.api.working.pieces import PutsTogether
from kdspec.diagnostics.diagnostic import excerpt
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.export.onnx.graph import ANSWERS
from kdspec.engine.forward.requested_outputs import is_of_transformers

_SILENT = 4


class OnnxModel(nn.Module):
    """Runs an ONNX file with onnxruntime on the CPU.

    Args:
        file: the ONNX file.
        of: the model that it was made from; it puts the answers for texts together, if its rows are made of them.
        accepted: the inputs that it takes of a batch; None: all.
        threads: the number of threads of an operator; 0: as many as the machine has cores.

    Raises:
        FindingError: KD532 if onnxruntime cannot open the file.
    """

    def __init__(self, file: Path, of: nn.Module, accepted: Collection[str] | None, threads: int = 0) -> None:
        import onnxruntime

        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = _SILENT  # what fails is raised too
        try:
            self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        # As in `arrays`.
        except Exception as error:
            message = f"onnxruntime cannot open `{file.name}`: {excerpt(str(error), 200)}"
            raise FindingError(Finding("KD532", message)) from error
        self.inputs = [each.name for each in self.session.get_inputs()]
        self.outputs = [each.name for each in self.session.get_outputs()]
        self.file = file.name
        self._makes_rows = of if isinstance(of, PutsTogether) and self.outputs == [ANSWERS] else None
        self._accepted = accepted
        # Rows of a family that may read padding are evaluated in batches of one length, as those of the model are.
        self.config = of.config if is_of_transformers(of) else None

    def forward(self, **inputs: Any) -> Any:
        """The outputs by name for a batch of rows, or what the model's `put_together` returns for one.

        Raises:
            FindingError: KD532 if onnxruntime cannot run the file on it.
        """
        if self._makes_rows is None:
            return self.run(inputs)
        if self._accepted is not None:
            inputs = {name: given for name, given in inputs.items() if name in self._accepted}
        fields = [given for given in inputs.values() if isinstance(given, Mapping)] or [inputs]
        answers = [self.run(field)[ANSWERS] for field in fields]
        masks = [field["attention_mask"] for field in fields]
        if answers[0].ndim < 3:
            return self._makes_rows.put_together(torch.cat(answers), None, **inputs)
        return self._makes_rows.put_together(_joined(answers), _joined(masks), **inputs)

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs by name.

        Args:
            inputs: tensors by name; those that the file does not have are left out.
        """
        return dict(zip(self.outputs, map(torch.from_numpy, self.arrays(self.given(inputs))), strict=True))

    def given(self, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
        """The inputs of the file as arrays."""
        return {name: inputs[name].numpy() for name in self.inputs}

    def arrays(self, given: Mapping[str, Any]) -> Sequence[np.ndarray[Any, Any]]:
        """The outputs in their order."""
        try:
            found: Sequence[np.ndarray[Any, Any]] = self.session.run(self.outputs, dict(given))
        # The errors of onnxruntime are classes of its C++ part, of which only some are documented.
        except Exception as error:
            shapes = ", ".join(f"`{name}` {list(array.shape)}" for name, array in given.items())
            message = f"onnxruntime cannot run `{self.file}` on {shapes}: {excerpt(str(error), 200)}"
            raise FindingError(Finding("KD532", message)) from error
        return found


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Tensors of texts one after another, with zeros behind the tokens of shorter fields."""
    longest = max(part.shape[1] for part in parts)
    ends = [(0, 0) * (part.ndim - 2) + (0, longest - part.shape[1]) for part in parts]
    return torch.cat([functional.pad(part, end) for part, end in zip(parts, ends, strict=True)])
