"""Signed builds: which artifact lies under which name, and the verdicts in build.json.

The signature of an artifact says who made its files, but neither the name under which they lie nor
the build: the folders of one signer could be exchanged. So `build.sig` lists build.json and each
artifact's manifest, as sha256sum does, below a signature over the list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from runtimes.artifact.keys import require_cryptography
from runtimes.artifact.signature import Signature, SignatureError, Trust, read_signed, sign_text
from runtimes.files.atomic import write_atomically
from runtimes.files.documents import MOST_BYTES, read_bytes
from runtimes.files.layout import BUILD_FILE, BUILD_SIGNATURE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_MANIFEST = "manifest.json"
_DOMAIN = b"burnish build 1\n"  # a manifest, signed by the same key, begins with a brace
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_SIGN_IT = "`burnish sign BUILD` signs it, as the owner of the private key"


def sign_build(build: Path, manifests: Mapping[str, bytes], key: Ed25519PrivateKey) -> None:
    """Sign the build.json of a build, and which manifest each of its folders holds."""
    contents = {BUILD_FILE: read_bytes(build / BUILD_FILE)}
    contents |= {f"{name}/{_MANIFEST}": manifests[name] for name in sorted(manifests)}
    lines = [f"{sha256(content).hexdigest()}  {name}\n" for name, content in contents.items()]
    listing = "".join(lines)
    signature = sign_text(_DOMAIN + listing.encode(), key)
    write_atomically(build / BUILD_SIGNATURE, signature.text + listing)


def check_build(path: Path, trust: Trust) -> None:
    """Raise SignatureError unless the trusted key has signed a build.json, by `build.sig` beside it.

    Does nothing if no signature is required, or if there is no build.json to read.

    Args:
        path: build.json, or the folder of the build.
        trust: names the key.
    """
    file = path / BUILD_FILE if path.is_dir() else path
    if trust.key is None or not file.exists():
        return
    try:
        digest = sha256(read_bytes(file)).hexdigest()
    except OSError as error:
        raise SignatureError(f"cannot read {file}: {error.strerror}") from error
    if _listing(file.parent, trust).get(BUILD_FILE) != digest:
        raise SignatureError(
            f"{file} was changed after it was signed, or is of another build: its "
            f"signature is of other verdicts. Get it again from where it was built; {_SIGN_IT}"
        )


def check_place(folder: Path, name: str, manifest: bytes, trust: Trust) -> None:
    """Raise SignatureError for an artifact that lies in a build, but not under its own name.

    In a build that was signed as a whole it must also be the one that was signed with the build.

    Args:
        folder: the artifact's.
        name: of the artifact, in its manifest.
        manifest: its content, which the trusted key has signed.
        trust: does nothing without a key.
    """
    if trust.key is None:
        return
    for place in dict.fromkeys((folder.absolute(), folder.resolve())):
        signed = (place.parent / BUILD_SIGNATURE).exists()
        if not signed and not (place.parent / BUILD_FILE).exists():
            continue
        if place.name != name:
            raise SignatureError(
                f"{folder} holds the artifact {name!r}: the folders of this build were exchanged "
                "or renamed after they were signed. Get the build again from where it was built"
            )
        digest = sha256(manifest).hexdigest()
        if signed and _listing(place.parent, trust).get(f"{name}/{_MANIFEST}") != digest:
            raise SignatureError(
                f"{folder} is not the artifact that was signed with this build: it comes from "
                f"another one, or was signed alone since. If it belongs here, {_SIGN_IT}"
            )


def _listing(build: Path, trust: Trust) -> dict[str, str]:
    """Return the signed digests by path in the build. Raises SignatureError if they are not."""
    require_cryptography()
    path = build / BUILD_SIGNATURE
    absent = (
        f"{build} is not signed as a whole: it has no {BUILD_SIGNATURE}; perhaps it was "
        "converted again since, or signed by an earlier Burnish, which wrote none. Its artifacts "
        f"verify one by one; {_SIGN_IT}"
    )
    text = read_signed(path, MOST_BYTES, absent)
    line, _, listing = text.partition("\n")
    signature = Signature.parse(f"{line}\n", path)
    trust.check_text(signature, _DOMAIN + listing.encode(), str(build), BUILD_SIGNATURE)
    return {name: digest for digest, name in _LINE.findall(listing)}
