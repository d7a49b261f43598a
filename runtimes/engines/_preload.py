"""Preload torch in the fork server, so that a child with torch starts in milliseconds."""

import contextlib

from runtimes.process.child import ending_with_parent

# A broken or missing torch must not stop the server: the step that needs it reports the error.
with ending_with_parent(), contextlib.suppress(Exception):
    import torch
    import torchvision  # noqa: F401

    torch.set_num_threads(1)  # no thread pool may exist before the fork
