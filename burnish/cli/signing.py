"""The verbs for signatures; `burnish.cli` registers them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.options import QuietOption

_Folder = Annotated[
    Path, typer.Argument(help="Folder of an artifact, or of a build.", metavar="DIR")
]


def keygen(
    private: Annotated[
        Path,
        typer.Argument(
            help="File for the private key. The public key is written to FILE.pub.", metavar="FILE"
        ),
    ],
    quiet: QuietOption = False,
) -> None:
    """Create a pair of Ed25519 keys for signing artifacts."""
    from burnish.report.text import clean
    from runtimes.artifact.keys import create_keys, fingerprint, read_public

    public = create_keys(private)
    if not quiet:
        name = fingerprint(read_public(public))
        typer.echo(clean(f"{private} signs: keep it secret. {public} verifies: {name}"))


def sign(
    path: _Folder,
    key: Annotated[
        Path,
        typer.Option(
            "--key",
            metavar="PRIVATE",
            help="File of the Ed25519 private key, as keygen, openssl or ssh-keygen creates it.",
        ),
    ],
    quiet: QuietOption = False,
) -> None:
    """Sign an artifact, or every artifact of a build, so that others can verify who made it."""
    from burnish.report.text import clean
    from burnish.signing import sign_all

    signed, fingerprint = sign_all(path, key)
    if not quiet:
        for folder in signed:
            typer.echo(f"{clean(folder)}: signed by {fingerprint}")


def verify(
    path: _Folder,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            metavar="PUBLIC",
            help="File of the public key. Default: the file that BURNISH_TRUSTED_KEY names.",
        ),
    ] = None,
    quiet: QuietOption = False,
) -> int:
    """Verify that a key signed an artifact, or every artifact of a build.

    Exits with 1 if not, or if a file has changed since.
    """
    from burnish.report.text import clean
    from burnish.signing import verify_all
    from runtimes.artifact.keys import fingerprint
    from runtimes.artifact.signature import VARIABLE, trusted
    from runtimes.errors import UsageError

    trust = trusted(key)
    if trust.key is None:
        raise UsageError(
            f"no public key to verify with: name its file with --key PUBLIC, or in {VARIABLE}"
        )
    checks = verify_all(path, trust)
    for check in checks:
        if check.problem:
            typer.echo(f"error: {clean(check.problem)}", err=True)
        elif not quiet:
            signer = fingerprint(trust.key)
            typer.echo(f"{clean(check.folder)}: signed by {signer}, unchanged")
    return 1 if any(check.problem for check in checks) else 0
