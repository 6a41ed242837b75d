"""Options of a conversion by their names alone, which say in which part of `ConvertOptions` they are."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from dataset_conversion import convert as conversion
from dataset_conversion.job import Conversion
from dataset_conversion.layouts import Layout
from dataset_conversion.options import ConvertOptions, Link, Target

_PARTS = [
    (part.name, {each.name for each in fields(getattr(ConvertOptions(), part.name))}) for part in fields(ConvertOptions)
]


def options(**values: Any) -> ConvertOptions:
    """`options(skip_bad=True, seed=1)`."""
    result = ConvertOptions()
    for name, value in values.items():
        (part,) = (part for part, names in _PARTS if name in names)
        result = replace(result, **{part: replace(getattr(result, part), **{name: value})})
    return result


def convert(
    source: Path,
    layout: str | Layout = "atlas",
    *,
    dataset_id: int = 201,
    name: str = "ATLAS",
    raw_folder: Path | None = None,
    link: Link = "auto",
    **values: Any,
) -> Conversion:
    return conversion.convert(source, layout, Target(dataset_id, name, raw_folder, link), options(**values))
