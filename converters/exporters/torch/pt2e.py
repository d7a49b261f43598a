"""int8 for inductor: PT2E quantization, by torchao's quantizer for inductor on x86 CPUs.

Inductor has integer kernels (oneDNN's) for the patterns that this quantizer writes into an exported
program, and for no other: a graph that was quantized for ONNX Runtime or OpenVINO would be computed
in float. So this is a separate calibration. Weights by channel, symmetric; activations per tensor,
uint8. torchao decides where to quantize; NNCF calibrates the ranges and corrects the biases that
rounding shifts. Sources: torchao, quantization/pt2e/quantizer/x86_inductor_quantizer.py;
nncf.experimental.torch.fx.quantize_pt2e.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from converters.data.calibration import CalibrationSamples
from converters.errors import ExportError
from converters.exporters.job import ExportJob
from converters.graph.quiet import quiet
from converters.recipe.quantize import QuantizeOptions
from runtimes.errors import UsageError
from runtimes.machine import machine
from runtimes.progress import counted
from runtimes.registry import nearest
from runtimes.spec import Arrays

if TYPE_CHECKING:
    import torch


METHOD = "torchao"
_MULTIPLY_ADD = ("avx512_vnni", "avx_vnni")
"""Instructions that add products of bytes in 32 bits.

Older ones add two of them in 16, which overflows.
"""


@dataclass(frozen=True)
class QuantizedProgram:
    """A program with quantized layers, its entry in the manifest, and notes for the report."""

    program: torch.export.ExportedProgram
    report: dict[str, Any]
    notes: list[str]


def quantize_program(
    job: ExportJob, program: torch.export.ExportedProgram, options: QuantizeOptions, wide: bool
) -> QuantizedProgram:
    """Calibrate and quantize an exported program.

    Args:
        job: of the export; its `calibration` returns the samples.
        program: exported with `strict`: the quantizer finds layers by the metadata of that mode.
        options: of the pass.
        wide: the code is for CPUs that add products of bytes in 32 bits; on others activations have
            7 bits.

    Raises:
        UsageError: there are no samples, or `exclude` names no layer.
        ExportError: the program cannot be quantized.
    """
    import torch

    if job.calibration is None:
        raise ExportError("no calibration data: quantization needs a recipe's calibration samples")
    exclude = _excluded(job.module, options.exclude)
    samples = job.calibration(options.samples)
    samples.read()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            method = _by_nncf if wide else _by_torchao
            module = program.module(check_guards=False)
            converted = method(job, module, _quantizer(exclude, wide), samples)
            args, kwargs = job.example_call()
            shapes = job.dynamic_shapes()
            quantized = torch.export.export(
                converted, args, kwargs, dynamic_shapes=shapes, strict=False
            )
        except Exception as error:  # quantizers fail in any way their libraries please
            raise ExportError(f"the program could not be quantized: {error}") from error
    report = {
        "quantizer": "nncf" if wide else METHOD,
        "options": options.model_dump(mode="json", exclude_defaults=True),
        "excluded": exclude,
        "calibration": {"samples": len(samples.digests)},
        "activation_bits": 8 if wide else 7,
    }
    return QuantizedProgram(quantized, report, list(samples.notes))


def widening() -> str | None:
    """Return the instruction set by which this CPU adds products of bytes in 32 bits, or None."""
    return next((name for name in _MULTIPLY_ADD if machine.supports(name)), None)


def missing() -> str | None:
    """Return why this machine cannot quantize for inductor, or None."""
    if not machine.system().endswith("x86_64"):
        return "int8 for inductor is for x86-64 CPUs"
    return None if find_spec("nncf") else "nncf is not installed: pip install 'burnish[quantize]'"


def _quantizer(exclude: list[str], wide: bool) -> Any:
    """Return the quantizer that decides where inductor on x86 computes in integers."""
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        X86InductorQuantizer,
        get_default_x86_inductor_quantization_config,
    )

    quantizer = X86InductorQuantizer()
    quantizer.set_global(get_default_x86_inductor_quantization_config(reduce_range=not wide))
    for name in exclude:
        quantizer.set_module_name_qconfig(name, None)
    return quantizer


def _by_nncf(
    job: ExportJob, module: torch.fx.GraphModule, quantizer: Any, samples: CalibrationSamples
) -> torch.fx.GraphModule:
    import nncf
    from nncf.experimental.torch.fx import quantize_pt2e

    def call(sample: Arrays) -> Any:
        args, kwargs = _call(job, sample)
        return kwargs or args

    size = len(samples.digests)
    dataset = nncf.Dataset(counted(samples, "calibration", size), call)
    with quiet():
        return quantize_pt2e(module, quantizer, dataset, subset_size=size)  # type: ignore[no-any-return]


def _by_torchao(
    job: ExportJob, module: torch.fx.GraphModule, quantizer: Any, samples: CalibrationSamples
) -> torch.fx.GraphModule:
    """Choose ranges of least squared error over histograms; NNCF would choose them for 8 bits."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    prepared = prepare_pt2e(module, quantizer)
    for sample in counted(samples, "calibration", len(samples.digests)):
        args, kwargs = _call(job, sample)
        prepared(*args, **kwargs)
    return convert_pt2e(prepared)  # type: ignore[no-any-return]


def _call(job: ExportJob, sample: Arrays) -> tuple[tuple[Any, ...], dict[str, Any]]:
    import torch

    tensors = {name: torch.from_numpy(sample[name].copy()) for name in job.facts.inputs}
    return ((), tensors) if job.facts.by_keyword else (tuple(tensors.values()), {})


def _excluded(module: torch.nn.Module, patterns: tuple[str, ...]) -> list[str]:
    """Return the modules with weight matrices that match the patterns.

    Raises UsageError if a pattern matches none.
    """
    layers = []
    for name, part in module.named_modules():
        weight = getattr(part, "weight", None)
        if weight is not None and weight.dim() > 1:
            layers.append(name)
    excluded: set[str] = set()
    for pattern in patterns:
        matches = {name for name in layers if fnmatchcase(name, pattern)}
        if not matches:
            hint = nearest(pattern, layers)
            raise UsageError(f"passes.quantize.exclude: no layer is named {pattern!r}{hint}")
        excluded |= matches
    return sorted(excluded)
