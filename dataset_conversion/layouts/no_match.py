"""Say why no path fits any expression, so that the person who wrote the expressions can mend them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath

from dataset_conversion.errors import ConversionError
from dataset_conversion.layouts.source import other_forms
from nnunet_transformers.common.problems import Finding

SHOWN = 5


def explain(
    source: Path,
    paths: Mapping[PurePosixPath, str],
    expressions: Sequence[tuple[str, re.Pattern[str]]],
    findings: Sequence[Finding] = (),
) -> ConversionError:
    """The error for a folder without a case.

    Args:
        source: the folder.
        paths: what it holds, with the text that was matched.
        expressions: (role, expression) of the layout file.
        findings: what else was found on the way, such as folders that may not be listed.
    """
    nifti = {path: text for path, text in paths.items() if text.lower().endswith((".nii", ".nii.gz"))}
    found = [("found", str(path)) for path in (nifti or paths)]
    shown: list[tuple[str, str]] = []
    problem, remedy = f"no file under {source}", "Give the folder that holds the data."
    if nifti:
        problem = f"no case among the {len(nifti)} NIfTI files under {source}"
        shown = [line for role, each in expressions for line in fit(role, each, list(nifti.values()))]
        above = _source_above(source, nifti.values(), [expression for _, expression in expressions])
        remedy = "Mend the expressions: each describes a whole path from the source folder on."
        remedy = f"The expressions fit from {above} on: give that folder." if above else remedy
    elif paths:
        problem = f"no NIfTI file (.nii.gz, .nii) among the {len(paths)} files under {source}"
        if others := other_forms(source, list(paths)):
            problem += f"; {others[0]}"
            remedy = others[1]
    return ConversionError([Finding("NO_CASES", problem, remedy, files=(*shown, *found)), *findings])


def fit(role: str, expression: re.Pattern[str], texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """An expression and how much of it fits the first texts, as lines of a finding."""
    return (role, expression.pattern), ("", how_far(expression, texts[:SHOWN]))


def how_far(expression: re.Pattern[str], texts: Sequence[str]) -> str:
    """How much of an expression fits the text that it fits best.

    The longest beginning of the expression that is itself an expression and matches the beginning of a text.
    """
    for text in texts:
        starts = [slash.end() for slash in re.finditer("/", text)]
        inside = next((start for start in starts if expression.fullmatch(text, start)), 0)
        if inside:
            return f"fits {text[inside:]}, but not the folders above it: {text[:inside]}"
    whole = expression.pattern
    best, text_of_best, length = "", "", 0
    for text in texts:
        for end in range(len(whole), length, -1):
            try:
                match = re.match(whole[:end], text)
            except re.error:
                continue
            if match and match[0]:
                best, text_of_best, length = match[0], text, end
                break
    if not best:
        return "does not fit, from the first character on"
    rest = f"then does not: {whole[length:]}" if whole[length:] else "but the path goes on"
    return f"fits {best!r} of {text_of_best}, {rest}"


def _source_above(source: Path, texts: Iterable[str], expressions: Sequence[re.Pattern[str]]) -> Path | None:
    """The folder above the source from which the expressions describe the paths, if it is near."""
    first = list(islice(texts, SHOWN))
    for above in islice(source.resolve().parents, 3):
        folders = source.resolve().relative_to(above).as_posix()
        if any(each.fullmatch(f"{folders}/{text}") for each in expressions for text in first):
            return above
    return None
