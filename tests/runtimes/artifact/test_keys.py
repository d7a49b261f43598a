"""Key files of Burnish, OpenSSL and OpenSSH; what is none is refused in words."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from runtimes.artifact import keys
from runtimes.artifact.keys import create_keys, fingerprint, read_private, read_public
from runtimes.errors import Unavailable, UsageError
from tests.irregular import make_irregular

PEM, SSH = serialization.Encoding.PEM, serialization.Encoding.OpenSSH
PLAIN = serialization.NoEncryption()


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(tool), reason=f"there is no {tool}")


def command(*words: object) -> str:
    return subprocess.run(
        [str(word) for word in words], check=True, capture_output=True, text=True
    ).stdout


def raw(private: ed25519.Ed25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()


def test_a_new_pair_belongs_together_and_only_its_owner_reads_the_private_half(
    tmp_path: Path,
) -> None:
    public = create_keys(tmp_path / "ci.key")
    assert public == tmp_path / "ci.key.pub"
    assert raw(read_private(tmp_path / "ci.key")) == read_public(public)
    assert stat.S_IMODE((tmp_path / "ci.key").stat().st_mode) == 0o600
    assert create_keys(tmp_path / "other.key").read_bytes() != public.read_bytes()


@pytest.mark.parametrize("there", ["ci.key", "ci.key.pub"])
def test_no_key_is_ever_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("precious")
    with pytest.raises(UsageError, match=rf"{there} exists, and keys are never overwritten"):
        create_keys(tmp_path / "ci.key")
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "precious"


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write .*ci\.key: No such file or directory"):
        create_keys(tmp_path / "none" / "ci.key")


@needs("openssl")
def test_openssls_keys_are_read_and_openssl_reads_ours(tmp_path: Path) -> None:
    command("openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "a")
    command("openssl", "pkey", "-in", tmp_path / "a", "-pubout", "-out", tmp_path / "a.pem")
    assert raw(read_private(tmp_path / "a")) == read_public(tmp_path / "a.pem")
    public = create_keys(tmp_path / "b")
    assert command("openssl", "pkey", "-in", tmp_path / "b", "-pubout") == public.read_text()


@needs("ssh-keygen")
def test_opensshs_keys_are_read_and_fingerprints_are_opensshs(tmp_path: Path) -> None:
    command("ssh-keygen", "-t", "ed25519", "-N", "", "-C", "ci@example", "-f", tmp_path / "id")
    public = read_public(tmp_path / "id.pub")
    assert raw(read_private(tmp_path / "id")) == public
    assert fingerprint(public) == command("ssh-keygen", "-l", "-f", tmp_path / "id.pub").split()[1]


def private_file(folder: Path, key: object, ssh: bool = False, password: bytes = b"") -> Path:
    """A private key in a file, in one of the two formats."""
    kind = serialization.PrivateFormat.OpenSSH if ssh else serialization.PrivateFormat.PKCS8
    lock = serialization.BestAvailableEncryption(password) if password else PLAIN
    (folder / "key").write_bytes(key.private_bytes(PEM, kind, lock))  # type: ignore[attr-defined]
    return folder / "key"


@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())]
)
@pytest.mark.parametrize("ssh", [False, True])
def test_keys_of_other_kinds_are_refused(tmp_path: Path, key: object, ssh: bool) -> None:
    path = private_file(tmp_path, key, ssh)
    encoding = SSH if ssh else PEM
    form = (
        serialization.PublicFormat.OpenSSH
        if ssh
        else serialization.PublicFormat.SubjectPublicKeyInfo
    )
    public = key.public_key()  # type: ignore[attr-defined]
    (tmp_path / "pub").write_bytes(public.public_bytes(encoding, form))
    with pytest.raises(
        UsageError, match=r"key is not an Ed25519 key: `burnish keygen FILE` creates a pair"
    ):
        read_private(path)
    with pytest.raises(
        UsageError, match=r"(pub is not an Ed25519 key|cannot read the public key .*pub)"
    ):
        read_public(tmp_path / "pub")


def test_a_passphrase_is_named_with_what_takes_it_off(tmp_path: Path) -> None:
    path = private_file(tmp_path, ed25519.Ed25519PrivateKey.generate(), password=b"secret")
    with pytest.raises(
        UsageError, match=r"protected by a passphrase.*openssl pkey -in .*key -out PLAIN"
    ):
        read_private(path)


@needs("ssh-keygen")
def test_a_passphrase_of_openssh_is_named_too(tmp_path: Path) -> None:
    command("ssh-keygen", "-t", "ed25519", "-N", "secret", "-f", tmp_path / "id")
    with pytest.raises(UsageError, match=r"protected by a passphrase.*ssh-keygen -p -f .*id"):
        read_private(tmp_path / "id")


def test_the_wrong_half_is_named(tmp_path: Path) -> None:
    public = create_keys(tmp_path / "ci.key")
    with pytest.raises(UsageError, match="is a public key: signing needs the private one"):
        read_private(public)
    with pytest.raises(UsageError, match="is a private key: name the public key"):
        read_public(tmp_path / "ci.key")


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"-----BEGIN PRIVATE", b"ssh-ed25519", b"ssh-ed25519 AAAA x"]
)
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(UsageError, match="cannot read the public key"):
        read_public(tmp_path / "key")
    with pytest.raises(UsageError, match=r"cannot read the private key|is a public key"):
        read_private(tmp_path / "key")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the key .*gone: No such file or directory"):
        read_public(tmp_path / "gone")


def test_without_the_package_the_message_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = create_keys(tmp_path / "ci.key")
    monkeypatch.setattr(keys, "find_spec", lambda name: None)
    functions = (
        lambda: create_keys(tmp_path / "new"),
        lambda: read_public(public),
        lambda: read_private(public),
    )
    for function in functions:
        with pytest.raises(
            Unavailable, match=r"need the package cryptography: pip install 'burnish\[sign\]'"
        ):
            function()


PRIME = 2**255 - 19
CURVE = -121665 * pow(121666, -1, PRIME) % PRIME
Point = tuple[int, int]


def add(first: Point, second: Point) -> Point:
    """The sum of two points of the curve (RFC 8032, 5.1.4)."""
    (x, y), (u, v) = first, second
    product = CURVE * x * u * y * v
    across = (x * v + y * u) * pow(1 + product, -1, PRIME)
    along = (y * v + x * u) * pow(1 - product, -1, PRIME)
    return across % PRIME, along % PRIME


def points_of_small_order() -> set[Point]:
    """All points whose eightfold is the identity: multiples of one of order eight."""
    y = next(value for value in keys._WEAK if value not in (0, 1, PRIME - 1))
    square = (y * y - 1) * pow(CURVE * y * y + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if (x * x - square) % PRIME:
        x = x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    assert (x * x - square) % PRIME == 0, "it is on the curve"
    points, point = {(0, 1)}, (x, y)
    while point not in points:
        points.add(point)
        point = add(point, (x, y))
    return points


def test_the_weak_keys_are_the_eight_points_of_small_order_in_every_encoding() -> None:
    points = points_of_small_order()
    assert len(points) == 8
    assert {y for _, y in points} == keys._WEAK
    for x, y in points:
        for value in (y, y + PRIME):  # some readers take a number beyond the prime
            for sign in (x & 1, 1 - (x & 1)):
                if value < 2**255:
                    assert keys.is_weak((value | sign << 255).to_bytes(32, "little"))


def test_honest_keys_are_not_weak() -> None:
    for _ in range(200):
        assert not keys.is_weak(raw(ed25519.Ed25519PrivateKey.generate()))


@pytest.mark.parametrize("form", [PEM, SSH], ids=["pem", "ssh"])
def test_a_weak_key_is_refused_in_every_file(tmp_path: Path, form: serialization.Encoding) -> None:
    identity = ed25519.Ed25519PublicKey.from_public_bytes(bytes([1]) + bytes(31))
    identity.verify(bytes([1]) + bytes(63), b"whatever one likes")  # or it would not be weak
    layout = (
        serialization.PublicFormat.OpenSSH
        if form is SSH
        else serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "weak.pub").write_bytes(identity.public_bytes(form, layout))
    with pytest.raises(UsageError, match=r"weak\.pub is a weak key .* anybody could sign with it"):
        read_public(tmp_path / "weak.pub")


@pytest.mark.parametrize("kind", ["pipe", "link to a device", "folder"])
@pytest.mark.timeout(10)
def test_a_key_that_is_no_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = make_irregular(tmp_path / "ci.key.pub", kind)
    for read in (read_public, read_private):
        with pytest.raises(UsageError, match=r"cannot read the key .*ci\.key\.pub"):
            read(path)
