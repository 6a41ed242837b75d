"""The text of a layout file: the proposal, and in comments what it fits, what it leaves and where to change it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dataset_conversion.layouts.patterns import MASK
from dataset_conversion.proposal.expressions import Kind, Proposal
from dataset_conversion.proposal.roles import BARE_MASK
from dataset_conversion.proposal.sheet import Sheet
from nnunet_transformers.common.words import counted, joined

NO_MASK = "NO NAME SAYS LESION"
_HEAD = """\
# How the data of {source} lie there, proposed by `scan --write` from the names of the files. Look whether it is right:
#
#     nnunet-transformers scan folder {source} --layout {path}
#
# Each expression fits whole paths from the folder on; its groups (?P<…>…) say the subject, the session and the site.
# Where a group takes what is no session or no site, write [^/]+ instead of it, in every expression.
# `nnunet-transformers convert folder --example` explains all that can stand here.
"""


def layout_text(
    proposal: Proposal,
    sheet: Sheet | None,
    source: Path,
    path: Path,
    *,
    found: Sequence[str] = (),
    several: Sequence[str] = (),
    no_sheet: str = "",
) -> str:
    """The file.

    Args:
        proposal: what to write.
        sheet: the table about the patients.
        source: the folder, for the comments.
        path: the file to be, for the comments.
        found: what the file finds, as lines of a comment.
        several: expressions of files of which a case has several for one image.
        no_sheet: why a sheet is not used, if there is one.
    """
    lines = _HEAD.format(source=_plain(shlex.quote(str(source))), path=_plain(shlex.quote(str(path)))).splitlines()
    lines += _comment(["", *found])
    lines += ["", "images:"]
    for name, kinds in proposal.images.items():
        lines += _field(f"  {name}", kinds)
        lines += _left(proposal, name, "  ")
    lines.append("")
    if proposal.masks:
        if any(kind.role == BARE_MASK for kind in proposal.masks):
            lines += _comment(["Names with mask, ROI or seg and nothing more do not say lesion: look at some of them."])
        lines += _field(MASK, proposal.masks)
    else:
        lines += _comment([f"{NO_MASK}: this fits no file. Write an expression for the masks here."])
        lines.append(f"mask: {_quoted(_mask_to_be(proposal))}")
    lines += _left(proposal, MASK, "")
    if proposal.subject_name:
        lines += [
            "",
            *_comment(["Sites number their patients alike."]),
            f"subject_name: {_quoted(proposal.subject_name)}",
        ]
    lines += _ignored(proposal.ignore, several)
    if no_sheet:
        lines += ["", *_comment([no_sheet])]
    if sheet:
        lines += ["", *_table(sheet)]
    return "\n".join(lines) + "\n"


def _field(name: str, kinds: Sequence[Kind]) -> Iterator[str]:
    if len(kinds) == 1:
        yield f"{name}: {_quoted(kinds[0].expression)}  # {counted(len(kinds[0].files), 'file')}"
        return
    indent = " " * (len(name) - len(name.lstrip()))
    yield f"{name}:"
    for kind in kinds:
        yield f"{indent}  - {_quoted(kind.expression)}  # {counted(len(kind.files), 'file')}"


def _left(proposal: Proposal, name: str, indent: str) -> Iterator[str]:
    """Other readings, ready to be taken instead or as well."""
    for kind in proposal.others:
        if name == (MASK if kind.role == BARE_MASK else kind.role):
            example = next(iter(kind.files))
            why = f"{counted(len(kind.files), 'file')} could be {name} too, but {kind.why_not}, such as {example}:"
            yield f"{indent}# {_plain(why)}"
            yield f"{indent}#   - {_quoted(kind.expression)}"
            if name == MASK and kind.role != BARE_MASK and "second" in kind.why_not:
                yield f"{indent}# If they are parts of one lesion, list both, and add the line  masks: union"


def _ignored(ignored: Sequence[str], several: Sequence[str]) -> Iterator[str]:
    if not ignored and not several:
        return
    yield ""
    if ignored:
        yield from _comment(["Another file of the same case is taken for each of these."])
        yield "ignore:"
        yield from (f"  - {_quoted(each)}" for each in ignored)
    if several:
        where = "." if ignored else ", and before ignore:."
        yield from _comment(
            [f"Of these a case has several for one image. Take the # away before those not meant{where}"]
        )
        yield from () if ignored else ("#ignore:",)
        yield from (f"#  - {_quoted(each)}" for each in several)


def _table(sheet: Sheet) -> Iterator[str]:
    lines = [f"{counted(sheet.matched, 'subject')} are in this sheet, whose path starts from the data folder."]
    if sheet.left_out:
        lines.append(f"Not carried along, as they may tell who it is: {joined(sheet.left_out)}.")
    yield from _comment(lines)
    yield "table:"
    for name in ("file", "key", "session", "site"):
        if text := getattr(sheet, name):
            yield f"  {name}: {_quoted(text)}"
    if sheet.columns:
        yield f"  columns: [{', '.join(map(_quoted, sheet.columns))}]"


def _mask_to_be(proposal: Proposal) -> str:
    expression = next(iter(proposal.images.values()))[0].expression
    folders, _, name = (
        expression.rpartition("/") if "(?P<subject>" in expression.rpartition("/")[0] else ("", "", expression)
    )
    if folders:
        return rf"{folders}/[^/]*lesion[^/]*\.nii(\.gz)?"
    return rf"masks?/{name}"


def _comment(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield f"# {_plain(line)}".rstrip()


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
