"""Folders that appear together or not at all, one process at a time in the folder where they appear."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest
from helpers import permissions

from nnunet_transformers.common.problems import UserError
from nnunet_transformers.common.staging import finish_renames, new_folder, new_folders


def test_all_folders_appear_at_the_end(tmp_path: Path) -> None:
    targets = [tmp_path / name for name in "ab"]
    with new_folders(targets) as stagings:
        for staging in stagings:
            (staging / "file").touch()
        assert not [target for target in targets if target.exists()]
    assert sorted(tmp_path.rglob("file")) == [target / "file" for target in targets]


@pytest.mark.parametrize("name", ["a", "b"])
def test_none_appears_where_one_may_not_and_nothing_is_left(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="TARGET_EXISTS"), new_folders([tmp_path / "a", tmp_path / "b"]):
        (tmp_path / name).mkdir()
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("mode", [0o555, 0o755])
def test_what_waits_for_its_place_is_put_there_by_whoever_may(tmp_path: Path, mode: int) -> None:
    (tmp_path / ".a.appearing").write_text('["a", "b"]')
    (tmp_path / "a").mkdir()
    (tmp_path / ".b.partial").mkdir()
    before = sorted(os.listdir(tmp_path))
    tmp_path.chmod(mode)
    with permissions.obeyed():
        found = finish_renames(tmp_path)
    tmp_path.chmod(0o755)
    assert (found, sorted(os.listdir(tmp_path))) == (
        ([], before) if mode == 0o555 else ([tmp_path / "a", tmp_path / "b"], ["a", "b"])
    )


@pytest.mark.skipif(sys.platform == "win32", reason="folders are not locked on Windows")
def test_nobody_else_makes_a_folder_between_the_check_and_the_new_name(tmp_path: Path) -> None:
    import fcntl

    def make() -> None:
        with new_folder(tmp_path / "a"):
            written.set()

    written = threading.Event()
    thread = threading.Thread(target=make)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        thread.start()
        assert written.wait(60)
        thread.join(0.2)
        assert not (tmp_path / "a").exists()
    finally:
        os.close(descriptor)
        thread.join(60)
    assert os.listdir(tmp_path) == ["a"]
