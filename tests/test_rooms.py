"""What may import what: floors above one another, arrows down only; docs/design.md draws them."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

import dataset_conversion
import nnunet_transformers

PACKAGE = Path(nnunet_transformers.__file__).parent
CONVERSION = Path(dataset_conversion.__file__).parent

# From the ground up; a room may import those before it.
FLOORS = {
    "nnunet_transformers": (
        *("common", "networks", "planning", "weights", "training", "plugin", "phantom", "comparison", "demo"),
        *("cli", "__main__"),
    ),
    "nnunet_transformers.comparison": (
        *("errors", "nnunet", "metrics", "experiment", "statistics", "running", "reporting", "compare"),
        "compare_commands",
    ),
}


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


def rooms_below(package: str, folder: Path) -> dict[str, set[str]]:
    """The rooms of the same package that each room imports from."""
    rooms = imported(folder)
    return {
        room: {other for name in names for other in rooms if name.startswith(f"{package}.{other}.")} - {room}
        for room, names in rooms.items()
    }


@pytest.mark.parametrize("package", FLOORS)
def test_no_room_imports_from_one_above_it(package: str) -> None:
    floors = FLOORS[package]
    below = rooms_below(package, PACKAGE.parent / package.replace(".", "/"))
    assert set(below) - {"__init__"} == set(floors)
    upwards = {(room, other) for room in floors for other in below[room] if floors.index(other) > floors.index(room)}
    assert not upwards


@pytest.mark.parametrize("folder", [CONVERSION, PACKAGE / "common"], ids=lambda folder: folder.name)
def test_only_the_common_floor_is_taken_from_the_rest_and_nothing_from_pytorch(folder: Path) -> None:
    allowed = ("nnunet_transformers.common.", "nnunet_transformers.__version__", "dataset_conversion.")
    for room, names in imported(folder).items():
        own = {name for name in names if name.startswith(("nnunet_transformers", "dataset_conversion"))}
        assert all(name.startswith(allowed[: 2 if folder.name == "common" else 3]) for name in own), room
        assert not {name.partition(".")[0] for name in names} & {"torch", "nnunetv2", "pandas"}, room


def test_only_the_command_line_knows_both_wings() -> None:
    rooms = imported(PACKAGE).items()
    assert [room for room, names in rooms if any(name.startswith("dataset_conversion") for name in names)] == ["cli"]


def test_the_rooms_of_the_conversion_make_no_circle() -> None:
    below = rooms_below("dataset_conversion", CONVERSION)
    assert {"tables", "layouts", "checks", "folds", "dataset", "qc"} <= below.keys()
    graphlib.TopologicalSorter(below).prepare()


def test_networks_know_nothing_of_nnunet() -> None:
    names = imported(PACKAGE / "networks")
    assert not {name for of_room in names.values() for name in of_room if name.startswith("nnunetv2")}
