"""What the server process of the steps does once, so that no step does it again."""

import converters.steps  # noqa: F401
from converters import trace

trace.known_packages()
