"""Imports that the server process of the steps does once, for all steps."""

from runtimes.process.child import ending_with_parent

with ending_with_parent():
    import converters.plan.work  # noqa: F401
    from converters.steps.dependencies import known_packages

    known_packages()
