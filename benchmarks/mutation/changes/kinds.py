"""All kinds of defects by their names."""

from __future__ import annotations

from mutation.changes import attributes, casts, operators, sizes, weights, wiring
from mutation.changes.change import Finder

WEIGHTS: dict[str, Finder] = {
    "weight scaled": weights.weight_scaled,
    "weight zeroed": weights.weight_zeroed,
    "weight swapped": weights.weight_swapped,
    "channel scaled": weights.channel_scaled,
    "channel zeroed": weights.channel_zeroed,
    "channel swapped": weights.channel_swapped,
    "bias dropped": weights.bias_dropped,
    "constant moved": weights.constant_moved,
    "quantization moved": weights.scale_moved,
    "weight cast": casts.weight_cast,
}
"""Those of constants: of any format."""

KINDS: dict[str, Finder] = {
    **WEIGHTS,
    "attribute moved": attributes.attribute_moved,
    "operator replaced": operators.operator_replaced,
    "operator removed": operators.operator_removed,
    "branch folded": operators.branch_folded,
    "size frozen": sizes.size_frozen,
    "size bounded": sizes.size_bounded,
    "size conditional": sizes.size_conditional,
    "inputs exchanged": wiring.inputs_exchanged,
    "outputs exchanged": wiring.outputs_exchanged,
    "classes exchanged": wiring.classes_exchanged,
    "state not passed on": wiring.state_not_passed_on,
    "samples mixed": wiring.samples_mixed,
    "value cast": casts.value_cast,
    "value saturated": casts.value_saturated,
}
"""Those of ONNX graphs: all that there are."""
