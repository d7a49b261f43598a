"""What each engine says of a quantized graph: which of its operators no integer kernel takes."""
