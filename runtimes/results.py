"""Results of a build: the contract of build.json, and the exit status computed from it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from runtimes.errors import UsageError
from runtimes.facts import MachineFacts, WeightsFacts
from runtimes.files.atomic import write_atomically
from runtimes.files.documents import read_json
from runtimes.files.layout import BUILD_FILE
from runtimes.registry import nearest
from runtimes.verdict import GateResult as GateResult
from runtimes.verdict import Outcome as Outcome
from runtimes.verdict import Record as Record
from runtimes.verdict import Status as Status


class OutputParity(Record):
    """One output's distance from the truth, at its worst over the probes.

    Attributes:
        cosine: between artifact and truth, -1..1.
        max_abs_at: probe and index of the largest error.
        not_finite: count of values that are NaN or Inf although eager's are finite.
    """

    name: str
    noise: float | None = None
    sqnr_db: float | None = None
    cosine: float | None = None
    max_abs: float | None = None
    max_abs_at: str | None = None
    not_finite: int = 0


class DimSizes(Record):
    """Sizes of one dynamic dimension that were tried, and how many are legal."""

    tried: list[int]
    legal: int


class SizesTried(Record):
    """Sizes that a verdict rests on.

    Attributes:
        tried: count of combinations of sizes that were tried.
        legal: count of all legal ones.
        dims: each dimension that does not follow from others.
    """

    tried: int
    legal: int
    dims: dict[str, DimSizes]


class Accuracy(Record):
    """Accuracy on labelled samples in 0..1; `drop` is eager's minus the artifact's.

    Attributes:
        lost: samples that only eager has right.
        won: samples that only the artifact has right.
        chance: accuracy of eager's classes in a random order; None in older files.
    """

    samples: int
    artifact: float
    eager: float
    drop: float
    ci95: tuple[float, float]
    mcnemar_p: float
    lost: int = 0
    won: int = 0
    chance: float | None = None


class MetricResult(Record):
    """A metric of the user's own; `drop`: by how much the artifact is worse than eager."""

    name: str
    eager: float
    artifact: float
    drop: float


class Parity(Record):
    """Distance of an artifact's outputs from the truth: the worst output of the worst probe.

    A model that passes pruned or trained is compared as it was exported; only its classes, accuracy
    and `original_sqnr_db` are compared with the model before the passes.

    Attributes:
        noise: rmse(artifact, truth) / rmse(eager, truth), no unit.
        sqnr_db: signal to quantization noise ratio in dB.
        max_abs: largest absolute error, in the output's unit.
        top1_agreement: share of samples, 0..1, whose largest output is the same as eager's.
        top5_agreement: mean share of eager's five best that are among the artifact's.
        rests_on: what else was tried, for a reader.
        edge_noise: the noise on edge values, which count nowhere else.
        kl: mean Kullback-Leibler divergence of the softmaxes in nats.
        sizes: that were tried; None if all sizes are fixed.
    """

    noise: float | None = None
    sqnr_db: float | None = None
    max_abs: float | None = None
    top1_agreement: float | None = None
    top5_agreement: float | None = None
    kl: float | None = None
    samples: int | None = None
    where: str | None = None
    edge_noise: float | None = None
    edge_where: str | None = None
    outputs: list[OutputParity] = Field(default_factory=list)
    accuracy: Accuracy | None = None
    original_sqnr_db: float | None = None
    metric: MetricResult | None = None
    sizes: SizesTried | None = None
    rests_on: list[str] = Field(default_factory=list)


class Deadline(Record):
    """Latency and misses of single requests at a fixed rate, as of a camera or microphone.

    `slowest_ms`: of all requests; None in files of older versions.
    """

    deadline_ms: float
    requests: int
    p99_ms: float
    misses_per_10000: float
    slowest_ms: float | None = None


class Parent(Record):
    """The artifact without its passes, timed beside it; `speedup`: the artifact's over it."""

    name: str
    size_bytes: int = Field(..., gt=0, lt=1 << 63)
    speedup: float | None = None
    ci95: tuple[float, float] | None = None


class Speed(Record):
    """Latency in milliseconds, and the ratio to eager with its 95 % interval (above 1: faster).

    Attributes:
        cold_start_ms: loading and the first answer, without importing libraries.
        peak_memory_bytes: resident memory of the session's process over a bare interpreter.
        throughput: samples per second by batch size.
        stable: the interval is as narrow as wanted, over enough rounds of a machine at its usual
            speed.
        usual: the machine was at its usual speed.
        seconds: spent on the ratio, with warm-up and waiting for the machine.
        launches: measurements that the ratio pools: this one, and earlier ones that left a gate
            undecided.
        bursts: seconds of the fastest run of each burst of this measurement: `own`, `eager` and
            `parent`. Not in build.json.
        compute_share: operations per second over the machine's measured peak in that precision.
        parent: comparison with the same format without quantization and pruning.
    """

    eager_ms: float | None = None
    median_ms: float | None = None
    speedup: float | None = None
    ci95: tuple[float, float] | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    rounds: int | None = None
    stable: bool | None = None
    usual: bool | None = None
    seconds: float | None = None
    launches: int = 1
    bursts: dict[str, list[float]] = Field(default_factory=dict, exclude=True)
    cold_start_ms: float | None = None
    peak_memory_bytes: int | None = None
    throughput: dict[int, float] = Field(default_factory=dict)
    compute_share: float | None = None
    deadline: Deadline | None = None
    parent: Parent | None = None


class Row(Record):
    """The verdict on one artifact on one device. `judged`: date of an earlier build's verdict."""

    name: str
    format: str
    device: str
    status: Status
    reason: str | None = None
    path: str | None = None
    size_bytes: int | None = Field(None, ge=0, lt=1 << 63)
    precision: str | None = None
    parity: Parity = Field(default_factory=Parity)
    speed: Speed = Field(default_factory=Speed)
    gates: list[GateResult] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    judged: str | None = None

    @property
    def undecided(self) -> bool:
        """Whether a gate is undecided: the measurement is not cached, but repeated."""
        return Outcome.UNDECIDED in self._outcomes()

    @property
    def unproven(self) -> bool:
        """Whether the row failed, but only because gates that the recipe asks for are undecided."""
        fails = Outcome.FAILS in self._outcomes()
        return self.status is Status.FAILED and self.undecided and not fails

    def _outcomes(self) -> set[Outcome]:
        return {result.outcome for result in self.gates}


class Build(Record):
    """All results of one `burnish convert`. build.json is this, the only source of reports."""

    recipe: dict[str, Any]
    model: str
    weights: WeightsFacts
    machine: MachineFacts
    artifacts: list[Row]
    notes: list[str] = Field(default_factory=list)
    seconds: dict[str, float] = Field(default_factory=dict)
    burnish: str | None = None
    created: str | None = None

    def write(self, path: Path) -> None:
        """Write build.json atomically."""
        write_atomically(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Build:
        """Read build.json from a file or the folder that holds it."""
        path = path / BUILD_FILE if path.is_dir() else path
        try:
            return cls.model_validate(read_json(path))
        except OSError as error:
            raise UsageError(
                f"no build at {path}: {error.strerror}. Run `burnish convert RECIPE` first."
            ) from error
        except (ValueError, ValidationError) as error:
            raise UsageError(
                f"cannot read {path} as a build.json of this Burnish version: {error}"
            ) from error


def check_required(require: Iterable[str], names: Iterable[str]) -> None:
    """Raise UsageError for a required name, other than `all`, that no artifact has."""
    names = sorted(set(names))
    for name in require:
        if name != "all" and name not in names:
            raise UsageError(f"--require {name}: no such artifact{nearest(name, names)}")


def unmet(rows: Iterable[Row], require: Iterable[str] = ()) -> list[str]:
    """Return the names of required artifacts (for `all`: all) with a row that did not pass.

    Raises UsageError for a required name that no artifact has.
    """
    rows, require = list(rows), list(require)
    names = {row.name for row in rows}
    check_required(require, names)
    required = names if "all" in require else set(require)
    not_passed = {row.name for row in rows if row.status is not Status.PASSED}
    return sorted(required & not_passed)


def exit_code(rows: Iterable[Row], require: Iterable[str] = ()) -> int:
    """Return the exit status of the rows.

    0: nothing failed. 1: a gate failed or a required artifact did not pass. 3: a step ended in
    error.
    """
    rows = list(rows)
    statuses = {row.status for row in rows}
    if Status.ERROR in statuses:
        return 3
    return 1 if unmet(rows, require) or Status.FAILED in statuses else 0
