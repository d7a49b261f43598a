"""Run one step of a recipe again, alone and in the foreground, for the script beside its log."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Run `python -m converters.build.again RECIPE [--set KEY=VALUE]... STEP` in this process."""
    import argparse
    import tempfile

    from converters.build.build import steps_runner
    from converters.build.options import BuildOptions
    from converters.plan.load import load_recipe
    from converters.plan.plan import source_of
    from converters.plan.step_graph import StepGraph
    from runtimes.errors import BurnishError

    parser = argparse.ArgumentParser(prog="converters.build.again")
    parser.add_argument("recipe")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("step")
    arguments = parser.parse_args()
    try:
        plan = load_recipe(arguments.recipe, arguments.settings)
        with tempfile.TemporaryDirectory() as folder:
            graph = StepGraph.of(plan, source_of(plan))
            runner = steps_runner(plan, graph, Path(folder), BuildOptions(cache=True), print)
            step = graph.by_name.get(arguments.step)
            if step is None:
                steps = ", ".join(graph.by_name)
                sys.exit(f"error: no step {arguments.step!r}; the steps are {steps}")
            needs = {name: runner.verified_output(name) for name in step.needs}
            (target := Path(folder) / "result").mkdir()
            result = step.action(target, needs)
            sys.stdout.write(f"{step.description}\n{result}\n")
    except BurnishError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
