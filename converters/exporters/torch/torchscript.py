"""TorchScript: scripted or traced, frozen.

Deprecated upstream, still what many C++ servers load.
"""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from zipfile import ZipFile

from pydantic import Field

from converters.errors import ExportError, Refused
from converters.exporters.base import Exporter, try_in_turn
from converters.exporters.job import Exported, ExportJob
from converters.exporters.torch.program import capture_program
from converters.exporters.torch.tracing import Trace, judge, watched_trace
from converters.models.calls.binding import bind
from converters.recipe.artifact import ExporterOptions

MODEL_FILE = "model.pt"
DEPRECATED = "TorchScript is deprecated by PyTorch in favour of torch.export"


# Records that PyTorch's archive writer adds by itself.
_VERSIONS = (".data/version", "version")  # the first from version 6 of the format on
_WRITTEN_AT_THE_END = (*_VERSIONS, "byteorder", ".data/serialization_id")
_SOURCES = ".debug_pkl"


class TorchScriptOptions(ExporterOptions):
    """Options of `format: torchscript`."""

    method: Literal["auto", "script", "trace"] = Field(
        "auto",
        description="Scripting or tracing. auto: script, with trace as the fallback; the manifest "
        "says which and why.",
    )
    optimize_for_inference: bool = Field(
        True, description="Fuse and pack weights when the module is loaded."
    )


class TorchScriptExporter(Exporter):
    """Writes `model.pt`."""

    format = "torchscript"
    runtime = "torchscript"
    devices = ("cpu", "cuda")
    Options = TorchScriptOptions

    def depends_on_machine(self, options: Any) -> bool:
        """Return False: the files are the same on each machine."""
        return False

    def unrepeatable(self, options: TorchScriptOptions) -> str | None:
        """Return None: nothing in the file depends on time or place."""
        return None

    def export(self, job: ExportJob, options: TorchScriptOptions) -> Exported:
        """Script or trace, freeze, save.

        The module is saved frozen but not yet optimized: the result of `optimize_for_inference`
        cannot be loaded again, so the runtime optimizes after loading.
        """

        methods = {"script": lambda: _script(job), "trace": lambda: _trace(job)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attempt = try_in_turn(options.method, methods)
            written: _Written = attempt.result
            chosen = options.method == "trace"
            refusal = None if chosen else _refusal_of_sizes(job, written.trace)
            notes = judge(written.trace, chosen, "`method: trace`", refusal)
            _save(written.module, job.folder / MODEL_FILE)
            by_keyword = _takes_names(job, attempt.name)
            problem = ""
            if options.optimize_for_inference:
                problem = _problem_of_optimizing(job, by_keyword)
        if problem:
            notes.append(f"optimize_for_inference is off: PyTorch fails on the result ({problem})")
        build = {
            "method": attempt.name,
            "failed": attempt.failed,
            "by_keyword": by_keyword,
            "optimize_for_inference": options.optimize_for_inference and not problem,
            "operators": _operators(written.module),
        }
        return Exported(MODEL_FILE, build=build, notes=[DEPRECATED, *notes])


def _refusal_of_sizes(job: ExportJob, trace: Trace) -> Refused | None:
    """Return the sizes for which a trace is right, by the guards of torch.export, if not all.

    None if code looked at no size, or torch.export cannot export the model: the probes judge it.
    """
    if not trace.sizes:
        return None
    try:
        capture_program(job)
    except Refused as refusal:
        return refusal
    except ExportError:
        return None
    return None


def _problem_of_optimizing(job: ExportJob, by_keyword: bool) -> str:
    """Return why the saved module cannot run after `optimize_for_inference`; "" if it can.

    torch 2.14 has no MKL-DNN kernel for GELU by tanh, but takes one beside a convolution.
    """
    import torch

    example = job.example()
    try:
        loaded = torch.jit.load(str(job.folder / MODEL_FILE))  # type: ignore[no-untyped-call]
        optimized = torch.jit.optimize_for_inference(loaded)
        with torch.inference_mode():
            optimized(**example) if by_keyword else optimized(*example.values())
    except (RuntimeError, TypeError) as error:
        return " ".join(str(error).strip().splitlines()[-1:])
    return ""


@dataclass(frozen=True)
class _Written:
    """A frozen module of TorchScript; if it was traced, where code looked at tensors."""

    module: Any
    trace: Trace = field(default_factory=Trace)


def _save(module: Any, path: Path) -> None:
    """Save without the author's source lines: absolute paths, different on each machine.

    TorchScript keeps them beside its code, for its messages; without them its messages name lines
    of that code.
    """
    import torch

    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        whole = Path(scratch, path.name)
        torch.jit.save(module, str(whole))
        writer = torch._C.PyTorchFileWriter(str(path))
        with ZipFile(whole) as archive:
            records = {name.partition("/")[2]: name for name in archive.namelist()}
            version = next(records[name] for name in _VERSIONS if name in records)
            writer.set_min_version(int(archive.read(version)))
            for name, inside in records.items():
                if name not in _WRITTEN_AT_THE_END and not name.endswith(_SOURCES):
                    content = archive.read(inside)
                    writer.write_record(name, content, len(content))
        writer.write_end_of_file()


def _operators(module: Any) -> dict[str, int]:
    """Count nodes of the inlined graph by operator, without prim::, which only move values."""
    operators = Counter[str]()
    for node in module.inlined_graph.nodes():
        if not node.kind().startswith("prim::"):
            operators[node.kind()] += 1
    return dict(operators.most_common())


def _script(job: ExportJob) -> _Written:
    """Script the model as its author wrote it; flat ends are Python, which cannot be scripted.

    Raises ExportError if its arguments or casts need flat ends, or if scripting would take the
    default None of an argument for a tensor.
    """
    import torch

    from converters.models.calls.half import stored_in_half

    module = job.module
    if job.facts.flat:
        assert job.model is not None  # `flat` is a fact of a model
        module = job.model
        if bind(module, list(job.facts.inputs)).structured or stored_in_half(module):
            raise ExportError(
                "inputs that are parts of an argument, and casts to half precision, are traced only"
            )
    scripted: Any = torch.jit.script(module)
    for argument in scripted.forward.schema.arguments:
        if argument.has_default_value() and str(argument.type) == "Tensor":
            raise ExportError(
                f"scripting takes {argument.name}=None for a tensor, so that `is None` is never "
                "true: annotate it as Optional[Tensor]"
            )
    return _Written(torch.jit.freeze(scripted))


def _takes_names(job: ExportJob, method: str) -> bool:
    """Return whether the module takes its inputs by name: scripted, it does as its author's."""
    if method == "script" and job.model is not None:
        return bind(job.model, list(job.facts.inputs)).by_keyword
    return job.facts.by_keyword


def _trace(job: ExportJob) -> _Written:
    """Trace; the tracer checks its result by running it again on the same inputs."""
    import torch

    args, kwargs = job.example_call()
    inputs: dict[str, Any] = (
        {"example_kwarg_inputs": kwargs} if kwargs else {"example_inputs": args}
    )
    with torch.no_grad(), watched_trace(len(job.facts.inputs)) as trace:
        traced = torch.jit.trace(job.module, **inputs, strict=False)  # type: ignore[no-untyped-call]
        return _Written(torch.jit.freeze(traced), trace)
