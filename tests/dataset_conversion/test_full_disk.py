"""A disk that is full, wherever that shows: what is finished is kept, and with more room the result is the same."""

from __future__ import annotations

import errno
import itertools
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.atlas_tree import AtlasTree, lesion
from helpers.conversion import convert
from helpers.full_disk import full_at

import dataset_conversion.job as job
from dataset_conversion.errors import ConversionError

SUBJECTS = ("r001s001", "r001s002", "r002s001")
PARTIAL = ".Dataset201_ATLAS.partial"


@pytest.fixture
def source(tree: AtlasTree) -> Path:
    """Cases of which image, mask or both must be rewritten."""
    for number, subject in enumerate(SUBJECTS):
        tree.add_image(subject, **({"scl_slope": 2, "scl_inter": 0} if number else {}))
        tree.add_mask(subject, data=lesion(subject) * np.uint8(255 if number < 2 else 1))
    return tree.root


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_wherever_the_disk_is_full_the_same_call_goes_on_with_more_room(
    source: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = content(convert(source, raw_folder=raw.parent / "whole").folder)
    check_case = job.check_case
    checked: list[str] = []
    monkeypatch.setattr(job, "check_case", lambda case, *rest: checked.append(case.case) or check_case(case, *rest))
    kinds = set()
    for nth in itertools.count(1):
        folder = raw.parent / f"full {nth}"
        error = errno.EDQUOT if nth % 2 else errno.ENOSPC
        with monkeypatch.context() as patch:
            written = full_at(patch, folder, lambda number, _, nth=nth: number == nth, error)
            try:
                convert(source, raw_folder=folder, jobs=1)
            except ConversionError as caught:
                told = str(caught)
            else:
                break
        kinds.add(re.sub(r"sub-\w+-1", "*", str(written[-1].relative_to(folder / PARTIAL))))
        assert os.strerror(error) in told
        assert "[CANNOT_WRITE]" in told
        assert f"the same command goes on from here; to give up, delete {folder / PARTIAL}" in told
        assert os.listdir(folder) == [PARTIAL]
        finished = {path.stem for path in (folder / PARTIAL / ".records").glob("sub-*.json")}
        checked.clear()
        assert content(convert(source, raw_folder=folder, jobs=1).folder) == whole
        assert len(finished) + len(checked) == len(SUBJECTS)
        assert not finished & set(checked)
        assert os.listdir(folder) == ["Dataset201_ATLAS"]
    texts = {"dataset.json", "cases.tsv", "conversion_report.json", "splits_final.json", "qc.html"}
    assert kinds == texts | {"imagesTr/*_0000.nii.gz", "labelsTr/*.nii.gz", f".records/.*.json.{os.getpid()}"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here; the test above does without")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_on_a_small_disk_the_conversion_goes_on_as_often_as_it_gets_more_room(
    source: Path, raw: Path, small_disk: Path
) -> None:
    whole = content(convert(source, raw_folder=raw, link="copy").folder)
    codes = []
    for kib in itertools.count(16, 4):
        subprocess.run(["mount", "-o", f"remount,size={kib}k", small_disk], check=True)
        try:
            result = convert(source, raw_folder=small_disk, link="copy")
            break
        except ConversionError as caught:
            codes.append(caught.code)
    assert codes == ["CANNOT_WRITE"] * len(codes)
    assert len(codes) > 5
    assert content(result.folder) == whole
    assert os.listdir(small_disk) == [result.folder.name]


def test_a_key_file_that_finds_no_room_leaves_nothing_and_the_next_call_makes_it(
    source: Path, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "token_bytes", bytes)  # the same names in each conversion
    key, place = tmp_path / "keys" / "key.json", tmp_path / "whole"
    key.parent.mkdir()
    whole = content(convert(source, pseudonyms=key, raw_folder=place).folder)
    key.unlink()
    with monkeypatch.context() as patch:
        full_at(patch, key.parent, lambda *_: True)
        with pytest.raises(ConversionError, match=r"No space left on device(.|\n)*KEY_UNUSABLE"):
            convert(source, pseudonyms=key)
    assert os.listdir(key.parent) == [".key.json.lock"]
    assert os.listdir(raw) == []
    assert content(convert(source, pseudonyms=key).folder) == whole
