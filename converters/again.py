"""One step of a recipe again, alone and in the foreground: what the script beside a failed step's log runs."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path


def command(recipe: Path, settings: tuple[str, ...]) -> tuple[str, ...]:
    """The command that runs a step of this recipe, but for the step's name."""
    asked = [part for one in settings for part in ("--set", one)]
    return (sys.executable, "-m", "converters.again", str(recipe.resolve()), *asked)


def write_script(logs: Path, name: str, again: tuple[str, ...]) -> Path:
    """Write `NAME.reproduce.sh` beside the log of a step."""
    script = logs / f"{name}.reproduce.sh"
    path = os.pathsep.join(one for one in sys.path if one and Path(one).is_dir())
    script.write_text(
        "#!/bin/sh\n"
        f"# Runs the step {name!r} again, alone. Results of earlier steps come from the cache.\n".replace("\r", " ")
        + f"cd {shlex.quote(str(Path.cwd()))} || exit\n"
        + f"PYTHONPATH={shlex.quote(path)} exec {shlex.join((*again, name))}\n",
        encoding="utf-8",
    )
    script.chmod(0o755)
    return script


def main() -> None:
    """`python -m converters.again RECIPE [--set KEY=VALUE]... STEP`; the step runs in this process, uncaught."""
    import argparse
    import tempfile

    from converters.build import BuildOptions, source_of, steps_runner
    from converters.recipe import load_recipe
    from runtimes.errors import BurnishError

    parser = argparse.ArgumentParser(prog="converters.again")
    parser.add_argument("recipe")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("step")
    asked = parser.parse_args()
    try:
        plan = load_recipe(asked.recipe, asked.settings)
        with tempfile.TemporaryDirectory() as folder:
            runner = steps_runner(plan, source_of(plan), Path(folder), BuildOptions(cache=True), print)
            step = runner.steps.by_name.get(asked.step)
            if step is None:
                sys.exit(f"error: no step {asked.step!r}; there are {', '.join(runner.steps.by_name)}")
            needs = {name: runner.whole(name) for name in step.needs}
            (target := Path(folder) / "result").mkdir()
            sys.stdout.write(f"{step.what}\n{step.work(target, needs)}\n")
    except BurnishError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
