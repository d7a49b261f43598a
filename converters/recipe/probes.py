"""The schema of `probes:`."""

from __future__ import annotations

from pydantic import Field, NonNegativeInt

from runtimes.spec import Strict
from runtimes.validator.defaults import PROBED_SIZES


class Probes(Strict):
    """Inputs that the validator tries."""

    sizes: NonNegativeInt = Field(
        PROBED_SIZES,
        description="Sizes of the dynamic dimensions to try, beyond each one's ends and a size "
        "that no exporter saw: pairs of ends, odd and prime sizes, powers of two and their "
        "neighbours, until they cost as much as 64 samples.",
    )
