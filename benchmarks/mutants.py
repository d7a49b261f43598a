"""Which share of wrong artifacts does the validator catch? Right artifacts get one seeded defect each.

Writes mutants.md beside this file; results lie in artifacts/mutants, and an interrupted run is continued.

    python benchmarks/mutants.py            # about an hour
    python benchmarks/mutants.py --quick --models mlp,unet --mutations "size frozen"
"""

from __future__ import annotations

from pathlib import Path

from options import option_parser

PAGE = Path(__file__).with_suffix(".md")
QUICK, WHOLE = 20, 60
"""Mutants of each artifact."""


def main() -> None:
    """Build the subjects, try mutants, print the shares; a whole run writes the page."""
    parser = option_parser(__doc__)
    parser.add_argument("--models", metavar="A,B", help="names of recipes in mutation/subjects")
    parser.add_argument("--mutations", metavar="A,B", help="kinds of defects, as in the page")
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    parser.add_argument("--count", type=int, help=f"mutants of each artifact ({WHOLE})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} mutants of each artifact")
    parser.add_argument("--jobs", type=int, default=1, help="artifacts that are tried side by side")
    parser.add_argument(
        "--folder", type=Path, default=Path("artifacts") / "mutants", help="builds and results"
    )
    parser.add_argument("--page", action="store_true", help="write the page, whatever was tried")
    arguments = parser.parse_args()

    from mutation.changes.kinds import KINDS
    from mutation.page import summary, write_page
    from mutation.run import Settings, run
    from mutation.subject import build_subjects, recipes

    models = arguments.models.split(",") if arguments.models else recipes()
    kinds = arguments.mutations.split(",") if arguments.mutations else list(KINDS)
    for option, names, legal in (("models", models, recipes()), ("mutations", kinds, KINDS)):
        if unknown := set(names) - set(legal):
            known = ", ".join(legal)
            parser.error(f"--{option}: there is no {', '.join(sorted(unknown))}; there are {known}")
    count = arguments.count or (QUICK if arguments.quick else WHOLE)
    subjects = build_subjects(models, arguments.folder.resolve() / "builds")
    file = arguments.folder.resolve() / f"results-{arguments.seed}.jsonl"
    results = run(subjects, Settings(kinds, count, arguments.seed, file), arguments.jobs)
    print("\n".join(summary(results)))
    partial = arguments.models or arguments.mutations or arguments.quick
    if arguments.page or not partial:
        command = f"python benchmarks/mutants.py --count {count} --seed {arguments.seed}"
        write_page(PAGE, results, command)


if __name__ == "__main__":
    main()
