"""Signed artifacts: who made them is proven before anything of them is read.

The signature is a file beside manifest.json, over its exact bytes; the manifest has the sha256 of every other file.
A device that trusts a key opens nothing else: the signature is checked before even the manifest is parsed.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from runtimes.artifact.keys import KEY_BYTES, fingerprint, read_public, require_cryptography
from runtimes.errors import ArtifactError, UsageError
from runtimes.files.atomic import write_atomically

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNATURE = "manifest.sig"
VARIABLE = "BURNISH_TRUSTED_KEY"
"""Environment variable that names the public key by which every artifact must be signed."""

_ALGORITHM = "ed25519"
_BYTES = 64  # RFC 8032, 5.1.6
_LONGEST = 1024
"""Characters that are read of a signature file: it is one line of 141."""


class SignatureError(ArtifactError):
    """An artifact is not signed by the key that is trusted, or was changed after it was signed."""


@dataclass(frozen=True)
class Signature:
    """What a signature file says. Whose key it names is a claim, until `Trust.check` has held it against one."""

    key: bytes
    value: bytes

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The signature of the artifact in `folder`. Raises SignatureError where none can be read."""
        path = folder / SIGNATURE
        if not path.exists():
            raise SignatureError(
                f"{folder} is not signed: it has no {SIGNATURE}; `burnish sign` makes one, where the private key is"
            )
        if not path.is_file():  # a pipe would be waited on for ever
            raise SignatureError(f"{path} is no regular file, so it proves nothing")
        try:
            with path.open(encoding="ascii", newline="") as file:
                text = file.read(_LONGEST)
            _, key, value = text.split()
            found = cls(base64.b64decode(key), base64.b64decode(value))
        except (OSError, ValueError) as error:
            raise SignatureError(f"{path} is damaged, so it proves nothing: {error}") from error
        # One signature has one text: base64 alone would let some bits of it change.
        if (len(found.key), len(found.value), found.text) != (KEY_BYTES, _BYTES, text):
            raise SignatureError(f"{path} is damaged, so it proves nothing: no {_ALGORITHM} key and signature")
        return found

    @property
    def text(self) -> str:
        """The content of its file."""
        key, value = (base64.b64encode(part).decode() for part in (self.key, self.value))
        return f"{_ALGORITHM} {key} {value}\n"

    def write(self, folder: Path) -> None:
        """Put the signature into an artifact's folder, in place of an older one."""
        write_atomically(folder / SIGNATURE, self.text)


def sign(folder: Path, manifest: bytes, key: Ed25519PrivateKey) -> None:
    """Sign the artifact in `folder`, whose manifest has these bytes, in place of an older signature."""
    Signature(key.public_key().public_bytes_raw(), key.sign(manifest)).write(folder)


@dataclass(frozen=True)
class Trust:
    """Whose artifacts are opened: those that one key has signed, or anybody's. Other processes can be given it.

    Attributes:
        key: the public key's 32 bytes; None where no signature is asked for.
    """

    key: bytes | None = None

    def check(self, folder: Path, manifest: bytes) -> None:
        """Raise SignatureError unless `manifest`, that of the artifact in `folder`, is signed by the key.

        Raises Unavailable where a signature is asked for and the package that checks it is not installed.
        """
        if self.key is None:
            return
        require_cryptography()
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        found = Signature.read(folder)
        if found.key != self.key:
            theirs, wanted = fingerprint(found.key), fingerprint(self.key)
            raise SignatureError(
                f"{folder} is signed by another key: {theirs}, not the trusted {wanted}. Get it from who holds that"
            )
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(found.value, manifest)
        except InvalidSignature as error:
            raise SignatureError(
                f"{folder} was changed after it was signed: its manifest is not the one that "
                f"{fingerprint(self.key)} has signed. Get it anew from where it was built"
            ) from error


ANYONE = Trust()

KeySource = str | Path | Trust | None
"""A public key's file, or what it was read to; None stands for what the environment demands."""


def trusted(key: KeySource = None) -> Trust:
    """Whose artifacts are opened, by a public key's file; by default that of BURNISH_TRUSTED_KEY, where it is set.

    Raises:
        UsageError: the file cannot be read, or is no Ed25519 public key.
        Unavailable: the package that reads keys is not installed.
    """
    if isinstance(key, Trust):
        return key
    named = os.environ.get(VARIABLE) if key is None else key
    if named is None:
        return ANYONE
    if named == "":  # a script whose own variable was empty must not open what anyone made
        raise UsageError(f"the trusted key is empty: name a public key's file in --key or {VARIABLE}, or unset it")
    return Trust(read_public(Path(named)))
