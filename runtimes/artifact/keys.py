"""Ed25519 keys (RFC 8032) in files: reads those of OpenSSL and OpenSSH, writes new ones as PEM."""

from __future__ import annotations

import base64
import hashlib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtimes.errors import Unavailable, UsageError
from runtimes.files.regular import open_regular

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_BYTES = 32  # RFC 8032, 5.1.5
_LONGEST = 1 << 16  # bytes of a key's file, which has some hundred
_PRIME = 2**255 - 19
_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_WEAK = {value % _PRIME for value in (0, 1, -1, _ORDER_8, -_ORDER_8)}
"""y of the eight points of small order. Under such a key anybody can sign anything: the identity
verifies one signature for every text (Chalkias et al., Taming the many EdDSAs, 2020)."""


def require_cryptography() -> None:
    """Raise Unavailable if the package is missing: unchecked artifacts are not opened."""
    if not find_spec("cryptography"):
        raise Unavailable("signatures need the package cryptography: pip install 'burnish[sign]'")


def fingerprint(key: bytes) -> str:
    """Return a public key's fingerprint: SHA256:... as `ssh-keygen -l` prints it."""
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in (b"ssh-ed25519", key))
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def read_public(path: Path) -> bytes:
    """Read the 32 bytes of an Ed25519 public key from a PEM file or a line of ssh-keygen (*.pub).

    Raises UsageError for anything else, Unavailable if cryptography is not installed.
    """
    content = _content(path)
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if b"PRIVATE KEY-----" in content:
        raise UsageError(
            f"{path} is a private key: name the public key, which is safe to copy to any device"
        )
    ssh = content.startswith(b"ssh-")
    load = serialization.load_ssh_public_key if ssh else serialization.load_pem_public_key
    try:
        key: Any = load(content)
    except Exception as error:  # ValueError, UnsupportedAlgorithm, and OpenSSL's own
        raise UsageError(f"cannot read the public key {path}: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path} is not an Ed25519 key: `burnish keygen FILE` creates a pair")
    raw = key.public_bytes_raw()
    if is_weak(raw):
        raise UsageError(
            f"{path} is a weak key (a point of small order): anybody could sign with it, so no "
            "honest program created it; `burnish keygen FILE` creates a pair"
        )
    return raw


def is_weak(key: bytes) -> bool:
    """Return whether a public key is a point of small order, in any encoding."""
    sign_bit = 1 << 255
    return int.from_bytes(key, "little") % sign_bit % _PRIME in _WEAK


def read_private(path: Path) -> Ed25519PrivateKey:
    """Read an Ed25519 private key.

    It is in the format of `burnish keygen`, `openssl genpkey -algorithm ed25519` or `ssh-keygen`.
    Raises UsageError for anything else, Unavailable if cryptography is not installed.
    """
    content = _content(path)
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if content.startswith(b"ssh-") or b"PUBLIC KEY-----" in content:
        raise UsageError(f"{path} is a public key: signing needs the private one")
    ssh = content.startswith(b"-----BEGIN OPENSSH")
    load = serialization.load_ssh_private_key if ssh else serialization.load_pem_private_key
    try:
        key: Any = load(content, password=None)
    except TypeError as error:
        remedy = f"ssh-keygen -p -f {path}" if ssh else f"openssl pkey -in {path} -out PLAIN"
        raise UsageError(
            f"{path} is protected by a passphrase, which nobody can type in a CI job: remove it "
            f"with {remedy}"
        ) from error
    except Exception as error:  # ValueError, UnsupportedAlgorithm, and OpenSSL's own
        raise UsageError(f"cannot read the private key {path}: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} is not an Ed25519 key: `burnish keygen FILE` creates a pair")
    return key


def create_keys(private: Path) -> Path:
    """Write a new private key, readable by its owner only, and the public key; return its path.

    Raises UsageError if one of them exists: an overwritten key is lost.
    """
    require_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = private.with_name(f"{private.name}.pub")
    for path in (private, public):
        if path.exists():
            raise UsageError(
                f"{path} exists, and keys are never overwritten: choose another name or remove it"
            )
    key, pem = Ed25519PrivateKey.generate(), serialization.Encoding.PEM
    unencrypted = serialization.NoEncryption()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, unencrypted)
    public_format = serialization.PublicFormat.SubjectPublicKeyInfo
    _create(private, secret, 0o600)
    _create(public, key.public_key().public_bytes(pem, public_format), 0o644)
    return public


def _create(path: Path, content: bytes, mode: int) -> None:
    """Write a new file that has the permissions `mode` from the start."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def _content(path: Path) -> bytes:
    require_cryptography()
    try:
        with open_regular(path) as file:
            return file.read(_LONGEST).strip()
    except OSError as error:
        raise UsageError(f"cannot read the key {path}: {error.strerror}") from error
