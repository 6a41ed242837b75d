"""The workflows are what GitHub takes, and run the matrix that `nox` runs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize(
    ("schema", "files"),
    [("github-workflows", WORKFLOWS), ("dependabot", [REPOSITORY / ".github" / "dependabot.yml"])],
    ids=["workflows", "dependabot"],
)
def test_github_can_read_the_files(schema, files):
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *map(str, files)]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_the_matrix_of_the_workflow_is_that_of_nox():
    pytest.importorskip("nox")
    spec = importlib.util.spec_from_file_location("noxfile", REPOSITORY / "noxfile.py")
    noxfile = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(noxfile)
    jobs = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "tests.yml").read_text())["jobs"]
    pairs = [(each["python"], each["torch"]) for each in jobs["matrix"]["strategy"]["matrix"]["include"]]
    assert pairs == noxfile.PAIRS
