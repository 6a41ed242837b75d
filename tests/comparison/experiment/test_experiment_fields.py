"""docs/comparison.md lists the fields of the experiment file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nnunet_transformers.common.problems import UserError
from nnunet_transformers.comparison.experiment.file import parse_experiment

PAGE = Path(__file__).parents[3] / "docs" / "comparison.md"


def documented() -> set[str]:
    section = PAGE.read_text(encoding="utf-8").split("## The fields of the file\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(.+?)`", row)}


def known(folder: Path, text: str) -> set[str]:
    """The fields that the message about an unknown one lists."""
    path = folder / "e.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        parse_experiment(path)
    (listed,) = re.findall(r"unknown field.*; known fields: (.+) \[UNKNOWN_FIELD\]", str(error.value))
    return set(listed.split(", "))


def test_the_page_lists_every_field_and_no_other(tmp_path: Path) -> None:
    places = {
        "": "{}",
        "trainers[].": "trainers: [{}]",
        "datasets[].": "datasets: [{}]",
        "test_sets[].": "dataset: 7\ntest_sets: [{}]",
        "where.local.": "where: {{local: {}}}",
        "where.slurm.": "where: {{slurm: {}}}",
        "folders.": "folders: {}",
    }
    fields = {
        prefix + name for prefix, text in places.items() for name in known(tmp_path, text.format("{unknown_field: 1}"))
    }
    assert documented() == fields - {"folders"}
