"""Pieces of expressions: literal text, open digits, and what a group captures of a name."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from dataset_conversion.proposal.roles import Named


class Form(NamedTuple):
    """What a group captures of a name.

    Attributes:
        name: an expression for the name, whose one group is what is captured.
        captured: one for what is captured.
        before: one for what stands before it, in a path.
        after: one for what stands behind.
    """

    name: str
    captured: str = ""
    before: str = ""
    after: str = ""


LEGAL = re.compile(r"[A-Za-z0-9.+_-]+")
"""What a case can be called."""
WHOLE = Form(r"(.+)")
NUMBER = Form(r".*?(\d+)\D*", r"\d+", "[^/]*?", r"[^\d/]*")
FORMS = (
    Form(r"(\d+)(?!\d).*", r"\d+", "", "[^/]*"),
    Form(r"([A-Za-z]+[-_]?\d+)(?!\d).*", r"[A-Za-z]+[-_]?\d+", "", "[^/]*"),
    Form(r"\D*(\d+)", r"\d+", "[^/]*?"),
    NUMBER,
    Form(r"\D*(\d+)(?!\d).*", r"\d+", "[^/]*?", "[^/]*"),
    Form(r"([A-Za-z0-9+]+)(?![^\W_]|\+).*", "[A-Za-z0-9+]+", "", "[^/]*"),
    Form(r"(?:.*[ _.-])?([A-Za-z0-9+]+)", "[A-Za-z0-9+]+", "(?:[^/]*[ _.-])?"),
)
"""Parts of a name that can stand in the name of a case, the best first."""


class Piece(NamedTuple):
    """A piece of an expression: literal text, or an expression."""

    text: str
    is_literal: bool = True


def escaped(text: str) -> str:
    """As an expression that fits the text, easy to read; any character for one that cannot be printed."""
    return "".join(re.sub(r"([\\.^$*+?{}\[\]()|])", r"\\\1", each) if each.isprintable() else "[^/]" for each in text)


def shape(texts: Collection[str], separator: str, inside: str) -> str:
    """An expression for such texts: letters as they are where all have the same, digits open.

    Args:
        texts: at least one.
        separator: what follows in a file's name.
        inside: what to take where they are not alike.
    """
    split = [re.split(r"([0-9]+)", text) for text in texts]
    if len({tuple(parts[::2]) for parts in split}) == 1 and len(split[0]) > 1:
        lengths = [{len(digits) for digits in same} for same in zip(*split, strict=True)]
        runs = [rf"\d{{{min(each)}}}" if len(each) == 1 and min(each) > 1 else r"\d+" for each in lengths]
        return "".join(runs[i] if i % 2 else escaped(part) for i, part in enumerate(split[0]))
    if inside:
        return inside
    first = separator[:1]
    if first in tuple("_- ") and not any(first in text for text in texts):
        return f"[^/{first}]+" if first != "-" else "[^/-]+"
    return "[^/]+?" if separator else "[^/]+"


def expression(text: str) -> list[Piece]:
    return [Piece(text, is_literal=False)] if text else []


def open_digits(text: str) -> list[Piece]:
    """Digits are any number, but for those of 2D and 3D."""
    parts = re.split(r"((?<!\d)[23]d(?![a-z])|t[12](?!\d)|\d+)", text, flags=re.IGNORECASE)
    return [
        Piece(r"\d+", is_literal=False) if part.isdecimal() and part.isascii() else Piece(part)
        for part in parts
        if part
    ]


def key(pieces: Iterable[Piece]) -> tuple[object, ...]:
    return tuple((piece.text.casefold() if piece.is_literal else piece) for piece in pieces if piece.text)


def one_expression(group: Sequence[tuple[Named, Sequence[Piece]]]) -> str:
    """One expression for files whose pieces differ in capitals at most."""
    expression = ""
    filled = [[piece for piece in pieces if piece.text] for _, pieces in group]
    for same in zip(*filled, strict=True):
        spellings = {piece.text for piece in same}
        text = escaped(same[0].text) if same[0].is_literal else same[0].text
        expression += text if len(spellings) == 1 else f"(?i:{text})"
    endings = {file.ending for file, _ in group}
    if endings == {".nii", ".nii.gz"}:
        return expression + r"\.nii(\.gz)?"
    if len(endings) == 1:
        return expression + escaped(endings.pop())
    return expression + r"(?i:\.nii(\.gz)?)"
