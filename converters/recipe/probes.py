"""The schema of `probes:`."""

from __future__ import annotations

from pydantic import Field, NonNegativeInt

from runtimes.spec import Strict
from runtimes.validator.defaults import FREE_SIZES, PROBED_SIZES


class Probes(Strict):
    """Inputs that the validator tries."""

    sizes: NonNegativeInt | None = Field(
        None,
        description="Sizes of the dynamic dimensions to try, beyond each one's ends and a size "
        "that no exporter saw: pairs of ends, odd and prime sizes, powers of two and their "
        f"neighbours, until they cost as much as 64 samples. By default {PROBED_SIZES}, or up to "
        f"{FREE_SIZES} of a model whose runs take microseconds.",
    )
