"""Static quantization: weights and activations in int8, ranges calibrated on samples.

The quantizer is NNCF, or ONNX Runtime's. Both write a QDQ graph: QuantizeLinear and
DequantizeLinear around float operators, which marks the integer parts and leaves the choice of
kernels to the engine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.errors import ExportError
from converters.graph.flow.pairs import repeat_pairs
from converters.graph.quiet import quiet
from converters.recipe.quantize import QuantizeOptions
from runtimes.progress import counted
from runtimes.spec import Arrays


@dataclass(frozen=True)
class Calibration:
    """Input of a static quantization.

    Attributes:
        batches: inputs of the model, one sample after the other; read as often as the quantizer
            likes.
        count: requested number of samples.
        exclude: names of the nodes that stay float.
        transformer: whether the graph has attention, for which the quantizer has special rules.
        weighted_sums: names of the products that follow a softmax, which these rules leave float.
        smoothing: strength of SmoothQuant for matrix products, from 0 to 1; None for NNCF's own.
        size: number of samples, if it is known.
    """

    batches: Iterable[Arrays]
    count: int
    exclude: Collection[str] = ()
    transformer: bool = False
    weighted_sums: Collection[str] = ()
    smoothing: float | None = None
    size: int | None = None

    @property
    def counted_batches(self) -> counted[Arrays]:
        """The batches, with a progress count for each iteration."""
        return counted(self.batches, "calibration", self.size)


def quantize_static(graph: Path, options: QuantizeOptions, data: Calibration, target: Path) -> None:
    """Write the QDQ graph of the float32 ONNX file `graph` to `target`.

    Raises ExportError if the quantizer fails.
    """
    try:
        if options.quantizer == "nncf":
            _nncf(graph, options, data, target)
        else:
            _onnxruntime(graph, options, data, target)
        _repeat_pairs(target)
    except Exception as error:  # quantizers fail in any way their libraries please
        raise ExportError(f"{options.quantizer} could not quantize the graph: {error}") from error


def _nncf(graph: Path, options: QuantizeOptions, data: Calibration, target: Path) -> None:
    import nncf
    import onnx
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters as Advanced
    from nncf.quantization.advanced_parameters import OverflowFix, QuantizationParameters

    # Per-channel activations have slow kernels or none; full-range weights are right on CPUs with
    # VNNI, on Arm and on GPUs: NNCF's default halves the first layer's range for the sake of CPUs
    # without.
    activations = QuantizationParameters(per_channel=False)
    advanced = Advanced(
        activations_quantization_params=activations, overflow_fix=OverflowFix.DISABLE
    )
    if (ranges := _RANGES.get(options.calibrate)) is not None:
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        advanced.activations_range_estimator_params = getattr(RangeEstimatorParametersSet, ranges)
    if data.smoothing is not None:
        advanced.smooth_quant_alphas.matmul = data.smoothing
    # NNCF's own rule looks at the direct input of a product alone: a mask after the softmax hides it.
    kept = sorted({*data.exclude, *data.weighted_sums})
    with quiet():
        quantized = nncf.quantize(
            onnx.load(str(graph)),
            nncf.Dataset(data.counted_batches),
            subset_size=data.count,
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER if data.transformer else None,
            ignored_scope=nncf.IgnoredScope(names=kept) if kept else None,
            advanced_parameters=advanced,
        )
    onnx.save(quantized, str(target))


_RANGES = {"min-max": "MINMAX", "percentile": "MEAN_QUANTILE", "mse": "HISTOGRAM"}


def _onnxruntime(graph: Path, options: QuantizeOptions, data: Calibration, target: Path) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as ort_quantize
    from onnxruntime.quantization.shape_inference import quant_pre_process

    methods = {"percentile": CalibrationMethod.Percentile, "entropy": CalibrationMethod.Entropy}
    prepared = target.with_name("prepared.onnx")
    quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
    ort_quantize(
        str(prepared),
        str(target),
        _reader(data),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=sorted(data.exclude),
        calibrate_method=methods.get(options.calibrate, CalibrationMethod.MinMax),
        extra_options={
            "WeightSymmetric": True,
            "QuantizeBias": False,  # a lowering quantizes biases if useful
            # Whatever its name says, it is read for every method: each sample's values become part
            # of a histogram before the next is run, instead of all samples' values at the end.
            "CalibStridedMinMax": 1,
        },
    )
    prepared.unlink()


def _repeat_pairs(path: Path) -> None:
    """Repeat the pairs of a quantized graph where the layers after a Concat or Split need them."""
    import onnx_ir as ir

    model = ir.load(str(path))
    if repeat_pairs(model):
        ir.save(model, str(path))


def _reader(data: Calibration) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Returns one sample after the other, in ranges of samples that follow each other."""

        def __init__(self) -> None:
            self._remaining = iter(data.counted_batches)
            self._left = 0

        def __len__(self) -> int:
            return data.count if data.size is None else data.size

        def set_range(self, start_index: int, end_index: int) -> None:
            """Start the next range; onnxruntime asks for them in order."""
            self._left = end_index - start_index

        def get_next(self) -> Arrays | None:
            """Return the next sample of the range, or None after its last."""
            self._left -= 1
            return next(self._remaining, None) if self._left >= 0 else None

    return Reader()
