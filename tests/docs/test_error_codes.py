"""The page of error codes is what the source says, and lacks none."""

from __future__ import annotations

import ast
import re

import error_codes
import pytest

# Capitals that are no codes: environment variables, a folder of ATLAS's.
NO_CODES = {"ATLAS_2", "CUDA_VISIBLE_DEVICES", "NNUNET_TRANSFORMERS_NO_AUTOSTART", "SLURM_CPUS_PER_TASK"}


@pytest.fixture(scope="module")
def in_source() -> list[error_codes.Use]:
    return error_codes.uses()


def test_the_page_is_what_the_source_says(in_source):
    written = error_codes.PAGE.read_text(encoding="utf-8")
    assert written == error_codes.as_page(in_source), "run: python docs/error_codes.py"


def test_every_code_in_the_source_is_on_the_page_with_a_meaning(in_source):
    meanings = {use.code for use in in_source if re.search(r"\w{2}", use.problem)}
    nodes = [
        node
        for package in ("nnunet_transformers", "dataset_conversion")
        for path in (error_codes.REPOSITORY / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    ]
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    constants = {node.id for node in nodes if isinstance(node, ast.Name)}  # in __all__ they are texts too
    codes = {text for text in texts - constants if re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", text)}
    assert codes - NO_CODES - meanings == set()


def test_texts_are_followed_along_each_path_to_where_they_are_raised(tmp_path):
    for package in ("nnunet_transformers", "dataset_conversion"):
        (tmp_path / package).mkdir()
    (tmp_path / "dataset_conversion" / "checks.py").write_text(
        """
def stop(code, problem, remedy="", severity="error"): ...

LIMIT = "at most two"

def check(path, number, mask):
    if mask:
        problem, remedy = f"{path} has {number} masks, {LIMIT}", "Remove one"
        remedy += " of them."
    else:
        problem, remedy = "no mask", "Add it."
    problems = []
    if number:
        problems.append(("SECOND", "odd"))
    raise stop("FIRST_CODE", problem, remedy)

def warn(problems):
    for code, text in [("THIRD", "even"), ("FOURTH", "uneven")]:
        stop(code, text, severity="warning")
"""
    )
    found = error_codes.uses(tmp_path)
    assert [(use.code, use.remedy) for use in found] == [
        ("FIRST_CODE", "Remove one of them."),
        ("FIRST_CODE", "Add it."),
        ("THIRD", ""),
        ("FOURTH", ""),
    ]
    page = error_codes.as_page(found)
    assert "- *path* has *number* masks, at most two.<br>\n  → Remove one of them.\n- No mask.<br>\n  → Add it." in page
    assert "### FOURTH\n\nWarning.\n\n- Uneven.\n" in page
