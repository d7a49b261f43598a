"""The verbs about signatures; `burnish.cli` makes them verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.verb import QuietOption

_Folder = Annotated[Path, typer.Argument(help="Folder of an artifact, or of a build.", metavar="DIR")]


def keygen(
    private: Annotated[
        Path, typer.Argument(help="File of the private key; FILE.pub has the public one.", metavar="FILE")
    ],
    quiet: QuietOption = False,
) -> None:
    """Make a pair of keys to sign artifacts with."""
    from burnish.report.text import clean
    from runtimes.artifact.keys import create_keys, fingerprint, read_public

    public = create_keys(private)
    if not quiet:
        said = f"{private} signs: keep it secret. {public} verifies: {fingerprint(read_public(public))}"
        typer.echo(clean(said))


def sign(
    path: _Folder,
    key: Annotated[
        Path, typer.Option("--key", metavar="PRIVATE", help="Ed25519, as keygen, openssl or ssh-keygen makes it.")
    ],
    quiet: QuietOption = False,
) -> None:
    """Sign an artifact, or every artifact of a build, so that others can tell who made it."""
    from burnish.report.text import clean
    from burnish.signing import sign_all

    signed, fingerprint = sign_all(path, key)
    if not quiet:
        for folder in signed:
            typer.echo(f"{clean(folder)}: signed by {fingerprint}")


def verify(
    path: _Folder,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="PUBLIC", help="Default: that of BURNISH_TRUSTED_KEY.")
    ] = None,
    quiet: QuietOption = False,
) -> int:
    """Say whether a key has signed an artifact, or all of a build, and nothing changed since; exit 1 if not."""
    from burnish.report.text import clean
    from burnish.signing import verify_all
    from runtimes.artifact.keys import fingerprint
    from runtimes.artifact.signature import VARIABLE, trusted
    from runtimes.errors import UsageError

    trust = trusted(key)
    if trust.key is None:
        raise UsageError(f"whose signature? Name a public key's file with --key PUBLIC, or in {VARIABLE}")
    found = verify_all(path, trust)
    for one in found:
        if one.problem:
            typer.echo(f"error: {clean(one.problem)}", err=True)
        elif not quiet:
            typer.echo(f"{clean(one.folder)}: signed by {fingerprint(trust.key)}, unchanged")
    return 1 if any(one.problem for one in found) else 0
