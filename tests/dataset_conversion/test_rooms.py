"""What may import what: the conversion stands on the common floor alone, its rooms on one another without a circle."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

import dataset_conversion
import nnunet_transformers

CONVERSION = Path(dataset_conversion.__file__).parent
COMMON = Path(nnunet_transformers.__file__).parent / "common"


def imported(folder: Path) -> dict[str, set[str]]:
    """The room of each module → what its modules import; a module beside the rooms is one of its own."""
    found: dict[str, set[str]] = {}
    for path in folder.rglob("*.py"):
        room = path.relative_to(folder).with_suffix("").parts[0]
        names = found.setdefault(room, set())
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("folder", [CONVERSION, COMMON], ids=lambda folder: folder.name)
def test_only_the_common_floor_is_taken_from_the_rest_and_nothing_from_pytorch(folder: Path) -> None:
    allowed = ("nnunet_transformers.common.", "nnunet_transformers.__version__", "dataset_conversion.")
    for room, names in imported(folder).items():
        own = {name for name in names if name.startswith(("nnunet_transformers", "dataset_conversion"))}
        assert all(name.startswith(allowed[: 2 if folder == COMMON else 3]) for name in own), room
        assert not {name.partition(".")[0] for name in names} & {"torch", "nnunetv2", "pandas"}, room


def test_the_rooms_make_no_circle() -> None:
    rooms = imported(CONVERSION)
    below = {
        room: {parts[1] for name in names if (parts := name.split("."))[0] == "dataset_conversion"} - {room}
        for room, names in rooms.items()
    }
    assert {"tables", "layouts", "checks", "folds", "dataset", "qc"} <= rooms.keys()
    graphlib.TopologicalSorter(below).prepare()
