"""The page of error codes is what the source says, and lacks none."""

from __future__ import annotations

import ast
import re

import error_codes

# Capitals that are no codes: environment variables, a folder of ATLAS's, a constant in an __all__.
NO_CODES = {"ATLAS_2", "CUDA_VISIBLE_DEVICES", "NNUNET_TRANSFORMERS_NO_AUTOSTART", "SLURM_CPUS_PER_TASK", "VOLUMES_ML"}


def test_the_page_is_what_the_source_says():
    written = error_codes.PAGE.read_text(encoding="utf-8")
    assert written == error_codes.as_page(error_codes.uses()), "run: python docs/error_codes.py"


def test_every_code_in_the_source_is_on_the_page_with_a_meaning():
    meanings = {use.code for use in error_codes.uses() if re.search(r"\w{2}", use.problem)}
    in_source = {
        node.value
        for package in ("nnunet_transformers", "dataset_conversion")
        for path in (error_codes.REPOSITORY / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", node.value)
    }
    assert in_source - NO_CODES - meanings == set()


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
