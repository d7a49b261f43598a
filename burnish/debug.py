"""Find the layer where an artifact leaves the truth."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path

from converters.data.uses import some_samples
from converters.debug.result import DebugResult
from converters.debug.run import DebugRequest
from converters.debug.run import debug as run
from converters.plan.load import load_recipe
from converters.plan.plan import source_of
from converters.sources.load import Source
from converters.steps.workers.local import STEP_SECONDS
from runtimes.artifact.artifact import Artifact, Manifest
from runtimes.errors import Unavailable, UsageError
from runtimes.files.layout import REFERENCE_FILE
from runtimes.process.process import isolated
from runtimes.progress import Tell, watched


def debug(
    path: Path,
    recipe: str | Path | None,
    memory: int,
    top: int,
    progress: Tell,
    trust: bool = False,
) -> DebugResult:
    """Compare an artifact with the eager model, layer by layer, in a process of its own.

    Args:
        path: the artifact's folder, beside its build's reference.safetensors.
        recipe: where the model and its weights come from. A `python:` model needs it, since loading one runs
            the user's code; a torchvision model where its weights are a file that the recipe's folder holds.
        memory: megabytes for the values that are compared at once.
        top: how many of the layers that add most error to name.
        progress: told what is being done; a `Watcher` also how far it is.
        trust: open an artifact that is a program even where this user did not build it here.

    Raises:
        UsageError: no such artifact, another format, or a model or weights other than the artifact's.
        ArtifactError: a file of the artifact or the reference cannot be read, or the graph does not run.
        Unavailable: PyTorch is not there, or the device of a TensorRT engine.
    """
    made = Artifact.open(path).manifest
    if not find_spec("torch"):
        raise Unavailable("debugging needs the eager model, and so PyTorch: pip install 'burnish[convert]'")
    plan = load_recipe(recipe) if recipe is not None else None
    prepared = plan.recipe.preprocess if plan else None
    samples = partial(some_samples, plan.recipe, plan.folder) if plan else None
    source = _source(made, recipe)
    # Passes that changed the model left it, and its own reference, with the build.
    changed = path.resolve().parent / made.build["changed"] if "changed" in made.build else None
    reference = (changed or path.resolve().parent) / REFERENCE_FILE
    request = DebugRequest(path, reference, source, memory * 1_000_000, top, prepared, changed, samples, trust)
    what = f"comparing {path}, layer by layer, with {made.model} in float64"
    progress(what)
    with watched(progress, what) as line:
        found: DebugResult = isolated(run, request, what=f"debugging {path}", timeout=STEP_SECONDS, line=line)
    return found


def _source(made: Manifest, recipe: str | Path | None) -> Source:
    """The eager model with the artifact's weights: from the recipe, or as the manifest records them."""
    args = made.build.get("model_args", {})
    if recipe is None:
        if not made.model.startswith("torchvision:"):
            raise UsageError(
                f"{made.model} is your own code, which runs only when asked: name its recipe with --recipe"
            )
        # The manifest writes what DEFAULT stood for behind it.
        weights = str(made.weights.get("source", "DEFAULT")).partition(" (")[0]
        return Source(made.model, args, (weights,), Path(), made.model, made.inputs, made.dims)
    source = source_of(load_recipe(recipe))
    if (source.model, source.args) != (made.model, args):
        raise UsageError(
            f"{recipe} describes {source.model} with {source.args}, the artifact was made from {made.model} "
            f"with {args}: name the recipe that it was built from"
        )
    return source
