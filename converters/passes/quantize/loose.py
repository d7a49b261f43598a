"""Quantization without calibration: dynamic (ranges found at run time) and weight-only."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from converters.errors import ExportError
from converters.passes.quantize.embeddings import quantize_embeddings
from converters.recipe.quantize import QuantizeOptions


def quantize_loose(
    graph: Path, options: QuantizeOptions, exclude: Collection[str], target: Path
) -> None:
    """Write the quantized graph of `graph` to `target`.

    Raises ExportError if ONNX Runtime cannot.
    """
    try:
        if options.mode == "dynamic":
            _dynamic(graph, exclude, target)
        else:
            _weights(graph, options, exclude, target)
    except Exception as error:  # the quantizer's exceptions share no base class
        raise ExportError(f"onnxruntime could not quantize the graph: {error}") from error


def _dynamic(graph: Path, exclude: Collection[str], target: Path) -> None:
    """Quantize matrix products and recurrent layers; activation ranges are those of each run."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        str(graph),
        str(target),
        op_types_to_quantize=["MatMul", "Gemm", "LSTM", "Attention"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=sorted(exclude),
    )


def _weights(graph: Path, options: QuantizeOptions, exclude: Collection[str], target: Path) -> None:
    """Quantize weights of matrix products and embeddings by groups.

    MatMulNBits computes with float activations.
    """
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        MatMulNBitsQuantizer,
    )
    from onnxruntime.quantization.onnx_model import ONNXModel

    model = ONNXModel(onnx.load(str(graph)))
    # Only matrix products without a bias have a kernel for packed weights
    model.replace_gemm_with_matmul()
    config = DefaultWeightOnlyQuantConfig(
        block_size=options.group,
        is_symmetric=True,
        bits=8 if options.to == "int8" else 4,
        op_types_to_quantize=("MatMul", "Gather"),
        quant_axes=(("MatMul", 0), ("Gather", 1)),
    )
    quantizer = MatMulNBitsQuantizer(
        model.model, nodes_to_exclude=sorted(exclude), algo_config=config
    )
    quantizer.process()
    onnx.save(quantizer.model.model, str(target))
    if options.to == "int8":
        _embeddings(target, exclude)


def _embeddings(path: Path, exclude: Collection[str]) -> None:
    """Quantize the tables of embeddings, which the quantizer above skips in int8."""
    import onnx_ir as ir

    model = ir.load(str(path))
    if quantize_embeddings(model, exclude):
        ir.save(model, str(path))
