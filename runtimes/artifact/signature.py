"""Signed artifacts: their signer is proven before any of their content is read.

The signature is a file next to manifest.json, over its exact bytes; the manifest has the sha256 of
every other file. A device that trusts a key opens nothing else: the signature is checked before
even the manifest is parsed.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from runtimes.artifact.keys import (
    KEY_BYTES,
    fingerprint,
    is_weak,
    read_public,
    require_cryptography,
)
from runtimes.errors import ArtifactError, UsageError
from runtimes.files.atomic import write_atomically
from runtimes.files.regular import open_regular

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNATURE = "manifest.sig"
VARIABLE = "BURNISH_TRUSTED_KEY"
"""Environment variable that names the public key by which every artifact must be signed."""

_ALGORITHM = "ed25519"
_BYTES = 64  # RFC 8032, 5.1.6
_LONGEST = 1024
"""Maximum of characters read from a signature file, which is one line of 141."""


class SignatureError(ArtifactError):
    """An artifact is not signed by the trusted key, or was changed after it was signed."""


def read_signed(path: Path, most: int, absent: str, encoding: str = "utf-8") -> str:
    """Return the text of a file with a signature; links are not followed.

    Raises SignatureError, with `absent` for its words if there is no such file.
    """
    try:
        with open_regular(path, follow=False) as file:
            return file.read(most).decode(encoding)
    except FileNotFoundError as error:
        raise SignatureError(absent) from error
    except OSError as error:
        raise SignatureError(
            f"{path} cannot be read ({error.strerror}), so it proves nothing"
        ) from error
    except ValueError as error:
        raise SignatureError(f"{path} is damaged, so it proves nothing: {error}") from error


@dataclass(frozen=True)
class Signature:
    """Content of a signature file. Its key is only a claim until `Trust.check` has verified it."""

    key: bytes
    value: bytes

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the signature in an artifact's folder. Raises SignatureError if there is none."""
        path = folder / SIGNATURE
        absent = (
            f"{folder} is not signed: it has no {SIGNATURE}; `burnish sign` writes it with the "
            "private key"
        )
        return cls.parse(read_signed(path, _LONGEST, absent, "ascii"), path)

    @classmethod
    def parse(cls, text: str, path: Path) -> Self:
        """Return the signature in one line of `path`. Raises SignatureError if it is none."""
        try:
            _, key, value = text.split()
            signature = cls(base64.b64decode(key), base64.b64decode(value))
        except ValueError as error:
            raise SignatureError(f"{path} is damaged, so it proves nothing: {error}") from error
        # Each signature has exactly one text: base64 alone would let some bits of it change.
        sizes = (len(signature.key), len(signature.value))
        if sizes != (KEY_BYTES, _BYTES) or signature.text != text:
            raise SignatureError(
                f"{path} is damaged, so it proves nothing: no {_ALGORITHM} key and signature"
            )
        return signature

    @property
    def text(self) -> str:
        """Content of the signature's file."""
        key, value = (base64.b64encode(part).decode() for part in (self.key, self.value))
        return f"{_ALGORITHM} {key} {value}\n"

    def write(self, folder: Path) -> None:
        """Write the signature into an artifact's folder, replacing an older one."""
        write_atomically(folder / SIGNATURE, self.text)


def sign(folder: Path, manifest: bytes, key: Ed25519PrivateKey) -> None:
    """Sign the artifact in `folder`, whose manifest is given; replace an older signature."""
    sign_text(manifest, key).write(folder)


def sign_text(text: bytes, key: Ed25519PrivateKey) -> Signature:
    """Return a key's signature of a text."""
    return Signature(key.public_key().public_bytes_raw(), key.sign(text))


@dataclass(frozen=True)
class Trust:
    """Artifacts that may be opened: those that one key has signed, or all. It can be pickled.

    Attributes:
        key: the public key's 32 bytes; None if no signature is required.
    """

    key: bytes | None = None

    def check(self, folder: Path, manifest: bytes) -> None:
        """Raise SignatureError unless the key has signed the manifest of the artifact in `folder`.

        Raises Unavailable if a signature is required and cryptography is not installed.
        """
        if self.key is None:
            return
        require_cryptography()
        self.check_text(Signature.read(folder), manifest, str(folder), "manifest")

    def check_text(self, signature: Signature, text: bytes, owner: str, kind: str) -> None:
        """Raise SignatureError unless the trusted key has made the signature of `text`.

        `owner` and `kind` are for messages: the folder, and what of it the text is.
        """
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        assert self.key is not None  # the caller checks only if a key is required
        if is_weak(self.key):
            raise SignatureError(f"the trusted key {fingerprint(self.key)} is weak: anybody signs")
        if signature.key != self.key:
            actual, required = fingerprint(signature.key), fingerprint(self.key)
            raise SignatureError(
                f"{owner} is signed by another key: {actual}, not the trusted {required}. Get it "
                "from the owner of the trusted key"
            )
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature.value, text)
        except InvalidSignature as error:
            raise SignatureError(
                f"{owner} was changed after it was signed: its {kind} is not the one that "
                f"{fingerprint(self.key)} has signed. Get it again from where it was built"
            ) from error


ANYONE = Trust()

KeySource = str | Path | Trust | None
"""A public key's file, or the Trust read from it; None stands for the environment's key."""


def trusted(key: KeySource = None) -> Trust:
    """Return the trust in a public key's file, by default BURNISH_TRUSTED_KEY's if it is set.

    Raises:
        UsageError: the file cannot be read, is not an Ed25519 public key, or is not the key that
            BURNISH_TRUSTED_KEY demands, which no caller can replace.
        Unavailable: cryptography is not installed.
    """
    if isinstance(key, Trust):
        return key
    demanded = os.environ.get(VARIABLE)
    if key is None:
        return ANYONE if demanded is None else _trust_in(demanded)
    trust = _trust_in(key)
    if demanded is not None and _trust_in(demanded) != trust:
        raise UsageError(
            f"{VARIABLE} demands the key {demanded} of everything that is opened here, and --key "
            f"names another one, {key}: leave --key out, or unset the variable"
        )
    return trust


def _trust_in(named: str | Path) -> Trust:
    if named == "":  # a script whose own variable was empty must not open anybody's artifacts
        raise UsageError(
            f"the trusted key is empty: name a public key's file in --key or {VARIABLE}, or unset "
            "it"
        )
    return Trust(read_public(Path(named)))
