"""The schema of `metric:`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runtimes.spec import Strict


class Metric(Strict):
    """A function of the user's that rates the answers to all samples."""

    function: str = Field(
        ...,
        pattern=r"^python:[\w.]+:\w+$",
        description="python:package.module:function. It is called with three arguments: the outputs "
        "(name to array, the first axis counts the samples of data.evaluation in order), the inputs "
        "likewise, and the labels or None. It returns a number.",
    )
    better: Literal["higher", "lower"] = Field(
        "higher", description="Whether more of it or less of it is better."
    )
