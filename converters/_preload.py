"""What the server process of the steps does once, so that no step does it again."""

from runtimes.child import ending_with_parent

with ending_with_parent():
    import converters.steps  # noqa: F401
    from converters import trace

    trace.known_packages()
