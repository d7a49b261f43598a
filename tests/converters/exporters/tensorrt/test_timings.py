"""TensorRT's timing cache in a file.

TensorRT for RTX has the same calls, and needs no GPU for them.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from converters.exporters.tensorrt import timings as _timings
from converters.exporters.tensorrt.timings import load_timings, save_timings, timings_file
from runtimes.machine.machine import cache_folder

pytestmark = pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX")


@pytest.fixture
def config() -> Any:
    """A builder's configuration."""
    trt = pytest.importorskip("tensorrt_rtx")
    builder = trt.Builder(trt.Logger(trt.Logger.INTERNAL_ERROR))
    config = builder.create_builder_config()
    yield config
    del config, builder


def test_what_a_build_timed_is_there_for_the_next_one(config: Any, tmp_path: Path) -> None:
    file = tmp_path / "deeper" / "timings"
    load_timings(config, file)
    save_timings(config, file, required=True)
    first = file.read_bytes()
    assert first
    load_timings(config, file)
    save_timings(config, file, required=True)
    assert file.read_bytes() == first
    assert [path.name for path in file.parent.iterdir()] == ["timings"]


def test_the_recipes_file_goes_before_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert timings_file(str(tmp_path / "mine"), "11.1.0") == tmp_path / "mine"
    gpu = SimpleNamespace(name="NVIDIA RTX 4090 (Laptop)")
    monkeypatch.setattr(_timings, "gpus", lambda: [gpu])
    assert (
        timings_file(None, "11.1.0")
        == cache_folder() / "timings" / "tensorrt-11.1.0-NVIDIA-RTX-4090-Laptop"
    )


@pytest.mark.parametrize("taken", [False, True])
def test_timings_that_tensorrt_does_not_take_are_left_out(tmp_path: Path, taken: bool) -> None:
    """Of another version or device: TensorRT says so when they are set, or returns nothing."""
    file, caches = tmp_path / "timings", []
    file.write_bytes(b"of another device")

    def attach(cache: bytes, ignore_mismatch: bool) -> bool:
        caches.append(cache)
        return cache == b""

    config = SimpleNamespace(
        create_timing_cache=lambda data: data if taken or not data else None,
        set_timing_cache=attach,
    )
    load_timings(config, file)
    assert caches[-1] == b""
    assert len(caches) == 1 + taken


def test_what_others_added_meanwhile_stays(tmp_path: Path) -> None:
    file = tmp_path / "timings"
    file.write_bytes(b"theirs")

    class Cache:
        content = b"ours"

        def combine(self, other: bytes, ignore_mismatch: bool) -> None:
            self.content += other

        def serialize(self) -> bytes:
            return self.content

    cache = Cache()
    save_timings(
        SimpleNamespace(create_timing_cache=lambda data: data, get_timing_cache=lambda: cache),
        file,
        True,
    )
    assert file.read_bytes() == b"ourstheirs"


def test_a_cache_that_cannot_be_written_fails_only_the_build_that_named_it(
    config: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    blocked = tmp_path / "file" / "timings"
    load_timings(config, blocked)
    save_timings(config, blocked, required=False)
    with pytest.raises(OSError, match=r"timings|file"):
        save_timings(config, blocked, required=True)
