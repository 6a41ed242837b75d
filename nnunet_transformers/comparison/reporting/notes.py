"""Sentences about what is not shown: one line for all that lack a thing for one reason."""

from __future__ import annotations

from collections.abc import Iterable

from nnunet_transformers.common.words import joined


def one_line_each(reasons: Iterable[tuple[str, str]], what: str = "", models: int = 0) -> list[str]:
    """ "Memory of A, B and C: nnU-Net does not record it."

    Args:
        reasons: who lacks it, and why as the end of a sentence.
        what: before the names, with the space between them: "Memory of ".
        models: how many there are, if who are models: three or more are not listed where it is all of them.
    """
    who: dict[str, list[str]] = {}
    for name, why in reasons:
        who.setdefault(why, []).append(name)
    return [
        f"{what}{f'all {models} models' if len(names) == models > 2 else joined(names)}: {why}"
        for why, names in who.items()
    ]
