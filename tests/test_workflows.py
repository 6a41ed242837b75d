"""The workflows are what GitHub takes, and run the matrix that `nox` runs, which runs tests that are there."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

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


@pytest.fixture(scope="module")
def noxfile() -> ModuleType:
    pytest.importorskip("nox")
    spec = importlib.util.spec_from_file_location("noxfile", REPOSITORY / "noxfile.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_matrix_of_the_workflow_is_that_of_nox(noxfile):
    jobs = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "tests.yml").read_text())["jobs"]
    pairs = [(each["python"], each["torch"]) for each in jobs["matrix"]["strategy"]["matrix"]["include"]]
    assert pairs == noxfile.PAIRS


def test_the_tests_that_nox_runs_are_there(noxfile):
    named = [*noxfile.ALWAYS, *(test for tests, _ in noxfile.RUNS.values() for test in tests)]
    paths = [test.removeprefix("--ignore=").partition("::")[0] for test in named]
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []
