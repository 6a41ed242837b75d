"""A source that may only be read, or not even that, and places that may not be written to."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import permissions
from helpers.atlas_tree import AtlasTree, lesion
from helpers.conversion import convert

from dataset_conversion.errors import ConversionError
from nnunet_transformers.cli import main

SUBJECTS = ("r001s001", "r001s002", "r002s001")


@pytest.fixture
def source(tree: AtlasTree) -> Iterator[Path]:
    """A tree of which some masks must be rewritten; whatever a test closes in it is opened again."""
    tree.add(*SUBJECTS)
    tree.add_mask("r002s001", data=lesion("r002s001") * np.uint8(255))
    yield tree.root
    for folder in (tree.root, *tree.root.rglob("*")):
        folder.chmod(0o755)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(source: Path, **options: object) -> str:
    with permissions.obeyed(), pytest.raises(ConversionError) as caught:
        convert(source, **options)
    return str(caught.value)


def test_a_source_that_may_only_be_read_is_converted_and_left_as_it_is(source: Path, raw: Path) -> None:
    whole = content(convert(source, raw_folder=raw.parent / "whole").folder)
    before = content(source)
    for path in sorted(source.rglob("*"), reverse=True):
        path.chmod(0o555 if path.is_dir() else 0o444)
    source.chmod(0o555)
    with permissions.obeyed():
        folder = convert(source).folder
        shutil.rmtree(folder)
        private = convert(source, pseudonyms=raw.parent / "key.json").folder
    assert content(source) == before
    assert all(os.access(path, os.W_OK) for path in private.rglob("*"))
    with permissions.obeyed():
        shutil.rmtree(private)
        assert content(convert(source).folder) == whole


def test_on_another_file_system_links_are_symbolic_and_hard_ones_are_refused(source: Path, raw: Path) -> None:
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == source.stat().st_dev:
        pytest.skip("there is no other file system here")
    with tempfile.TemporaryDirectory(dir=memory) as elsewhere:
        with pytest.raises(ConversionError, match=r"(?s)--link hard.*--link auto.*CANNOT_WRITE.*Nothing was written"):
            convert(source, raw_folder=Path(elsewhere), link="hard")
        assert os.listdir(elsewhere) == []
        folder = convert(source, raw_folder=Path(elsewhere)).folder
        images = sorted((folder / "imagesTr").iterdir())
        assert [Path(os.readlink(path)).is_relative_to(source.resolve()) for path in images] == [True] * len(SUBJECTS)
        assert content(folder) == content(convert(source).folder)


def test_what_may_not_be_read_is_named_and_nothing_is_written(source: Path, tree: AtlasTree, raw: Path) -> None:
    tree.image_path("r001s001").chmod(0)
    tree.mask_path("r002s001").parent.chmod(0o600)  # may be listed, but no file in it reached
    told = refused(source)
    assert told.count("no permission to read it") == 3
    assert told.count("[UNREADABLE]") == 3
    (source / "Training" / "R001").chmod(0)
    assert "no permission to list the folder Training/R001" in refused(source)
    assert os.listdir(raw) == []


def test_a_source_that_cannot_be_reached_or_listed_is_an_error(source: Path, raw: Path) -> None:
    source.chmod(0)
    assert "UNREADABLE_FOLDER" in refused(source)
    assert "NO_SOURCE" in refused(source / "Training")


@pytest.mark.parametrize("place", ["raw", "raw/new"])
@pytest.mark.parametrize("mode", [0, 0o500])
def test_a_place_that_may_not_be_written_to_is_an_error(source: Path, raw: Path, place: str, mode: int) -> None:
    (closed := raw / "raw").mkdir()
    closed.chmod(mode)
    told = refused(source, raw_folder=raw / place)
    closed.chmod(0o755)
    assert "[CANNOT_WRITE]" in told
    assert told.endswith("Nothing was written.")


def test_nnunets_other_folders_need_not_be_reached(source: Path, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (closed := raw.parent / "closed").mkdir()
    for name in ("nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(closed / name))
    closed.chmod(0)
    with permissions.obeyed():
        convert(source)


def test_a_dataset_to_merge_that_cannot_be_reached_is_an_error(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (closed := tmp_path / "closed").mkdir()
    closed.chmod(0)
    with permissions.obeyed():
        assert main(["convert", "merge", str(closed / "a"), str(closed / "b"), "--dataset-id", "9"]) == 2
    assert "NO_DATASET" in capsys.readouterr().err
