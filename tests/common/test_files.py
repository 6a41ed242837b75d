"""A file is there whole or not at all, and what is secret is its owner's only."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from nnunet_transformers.common.files import write_secret

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_secret_is_its_owners_only_before_anything_is_in_it_and_on_disk_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        seen.append((stat.S_IMODE(status.st_mode), status.st_size, (tmp_path / "key").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    before = os.umask(0)
    try:
        write_secret(tmp_path / "key", b"secret")
    finally:
        os.umask(before)
    assert seen == [(0o600, 6, False)]
    assert (tmp_path / "key").read_bytes() == b"secret"
    assert mode(tmp_path / "key") == 0o600


def test_a_secret_keeps_the_mode_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_secret(path, b"old")
    path.chmod(0o640)
    write_secret(path, b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", 0o640)


def test_a_crash_leaves_the_old_secret_and_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_secret(tmp_path / "key", b"old")

    def fsync(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space"):
        write_secret(tmp_path / "key", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_what_a_killed_process_left_is_not_taken_for_the_new_file(tmp_path: Path) -> None:
    left = tmp_path / ".key.partial"
    left.write_bytes(b"half of a longer sec")
    left.chmod(0o644)
    write_secret(tmp_path / "key", b"secret")
    assert ((tmp_path / "key").read_bytes(), mode(tmp_path / "key")) == (b"secret", 0o600)
