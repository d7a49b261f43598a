"""torch.export: the whole graph, in a file that PyTorch's tools start from.

TorchScript's successor.
"""

from __future__ import annotations

from converters.exporters.base import Exporter
from converters.exporters.job import Exported, ExportJob
from converters.exporters.torch.program import ProgramOptions, export_program, forget_sources

MODEL_FILE = "model.pt2"


class TorchExportOptions(ProgramOptions):
    """Options of `format: torch-export`."""


class TorchExportExporter(Exporter):
    """Writes `model.pt2`."""

    format = "torch-export"
    runtime = "torch-export"
    devices = ("cpu", "cuda")
    Options = TorchExportOptions

    def depends_on_machine(self, options: TorchExportOptions) -> bool:
        """Return False: the files are the same on each machine."""
        return False

    def unrepeatable(self, options: TorchExportOptions) -> str | None:
        """Return None: nothing in the file depends on time or place."""
        return None

    def export(self, job: ExportJob, options: TorchExportOptions) -> Exported:
        """Export and save.

        The example inputs stay in: compilers that start from the file need them.
        """
        import torch

        program, build = export_program(job, options)
        forget_sources(program)
        torch.export.save(program, str(job.folder / MODEL_FILE))
        return Exported(MODEL_FILE, build=build)
