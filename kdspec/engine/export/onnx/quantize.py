"""Dynamic quantisation to eight bits: weights in the file, activations when it runs."""

from __future__ import annotations

import tempfile
from pathlib import Path

from kdspec.diagnostics.diagnostic import excerpt
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.export.onnx.graph import quiet


def quantize(file: Path, to: Path) -> None:
    """Write an ONNX file with weights of eight bits, one scale for each output of a matrix.

    Weights use seven of the eight bits: the instructions of processors without VNNI add two products in 16 bits, which
    overflow with eight, and the answers would depend on the machine. Embeddings are quantised too.

    Args:
        file: the ONNX file in float32.
        to: the file to write; large weights are beside it, as they are beside `file`.

    Raises:
        FindingError: KD531 if onnxruntime cannot do it.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    large = file.with_name(f"{file.name}.data").is_file()
    with tempfile.TemporaryDirectory(prefix="kdspec-") as folder, quiet():
        folded = Path(folder) / "folded.onnx"
        try:
            quant_pre_process(
                str(file),
                str(folded),
                skip_symbolic_shape=True,
                save_as_external_data=large,
                all_tensors_to_one_file=True,
            )
            quantize_dynamic(
                str(folded), str(to), weight_type=QuantType.QInt8, per_channel=True, reduce_range=True,
                use_external_data_format=large,
            )  # fmt: skip
        # Of its many kinds of errors some come from onnx, and some from asserts.
        except Exception as error:
            message = f"onnxruntime cannot quantise the ONNX file: {type(error).__name__}: {excerpt(str(error), 200)}"
            raise FindingError(Finding("KD531", message, help="leave out `--int8`")) from error
