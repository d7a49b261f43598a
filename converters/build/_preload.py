"""What the server process of the steps does once, so that no step does it again."""

from runtimes.process.child import ending_with_parent

with ending_with_parent():
    import converters.plan.work  # noqa: F401
    from converters.steps import trace

    trace.known_packages()
