"""`scan --write`: propose a layout file, prove it by reading it again, and say what it finds and what to type next."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dataset_conversion.errors import ConversionError, stop
from dataset_conversion.layouts import Scan, atlas_v1, no_match
from dataset_conversion.layouts.entities import parse
from dataset_conversion.layouts.named_files import image_name
from dataset_conversion.layouts.patterns import MASK, as_text
from dataset_conversion.layouts.source import list_files
from dataset_conversion.layouts.yaml_file import read_layout
from dataset_conversion.proposal import sheet as sheets
from dataset_conversion.proposal.advice import is_4d, suggestions
from dataset_conversion.proposal.expressions import Proposal, escaped, propose
from dataset_conversion.proposal.roles import BARE_MASK, OTHER, Named, name_files
from dataset_conversion.proposal.yaml_text import layout_text
from nnunet_transformers.common.problems import MAX_SHOWN, Finding, writing_to
from nnunet_transformers.common.words import counted, listed

_NAMES_SHOWN = 10
_TOLD = ("UNMATCHED_FILES", "UNUSED_PATTERN", "UNLABELLED", "SHEET_ZEROS")


@dataclass(frozen=True)
class Written:
    """A layout file and what it finds; as text, what `scan --write` prints."""

    path: Path
    source: Path
    found: Scan
    account: tuple[str, ...]
    commands: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([*self.account, "", f"Written: {self.path}. Look at it, then:", "", *self.commands])


def write_layout(source: Path, path: Path) -> Written:
    """Write a layout file for a folder.

    Raises:
        ConversionError: TARGET_EXISTS; NO_SOURCE; NO_CASES where there is no NIfTI file; KNOWN_LAYOUT for ATLAS and
            BIDS; NO_IMAGE_NAME and NO_SUBJECT where the names do not say enough. Nothing was written then.
    """
    if os.path.lexists(path):
        raise stop("TARGET_EXISTS", f"{path} exists already", "Give another name, or delete it yourself.")
    paths, unreadable = list_files(source, "Give the folder that holds the data.")
    texts = {as_text(each): each for each in paths if each.name.lower().endswith((".nii", ".nii.gz"))}
    if not texts:
        raise no_match.explain(source, {each: as_text(each) for each in paths}, (), unreadable)
    _refuse_known(source, texts)
    files = name_files(texts)
    near = sheets.read_near(source, paths)
    proposal = propose(
        files,
        is_4d=lambda text: is_4d(source / texts[text]),
        fits_sheet=lambda subjects: sheets.lists(near, subjects),
    )
    if proposal is None:
        raise _says_too_little(source, files)
    sessions = {("-".join(filter(None, (site, subject))), session) for site, subject, session in proposal.cases}
    sheet = sheets.best(near, proposal.subjects, sessions, proposal.images)
    no_sheet = ""
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / path.name
        try:
            found = _tried(trial, layout_text(proposal, sheet, source, path), source)
        except ConversionError as error:
            if not sheet:
                raise
            no_sheet = f"The sheet {sheet.file} has their names, but {error.findings[0].problem}"
            sheet = None
            found = _tried(trial, layout_text(proposal, sheet, source, path), source)
    several = [escaped(as_text(PurePosixPath(name))) for each in _several(found) for _, name in each.files]
    account = _account(found, texts)
    text = layout_text(proposal, sheet, source, path, found=account, several=several, no_sheet=no_sheet)
    with writing_to(path), path.open("x", encoding="utf-8") as file:
        file.write(text)
    found = read_layout(path).find(source)
    return Written(path, source, found, tuple(_account(found, texts)), tuple(_commands(found, source, path, proposal)))


def _tried(path: Path, text: str, source: Path) -> Scan:
    path.write_text(text, encoding="utf-8")
    return read_layout(path).find(source)


def _refuse_known(source: Path, texts: Collection[str]) -> None:
    """Say which command reads ATLAS and BIDS without a layout file."""
    if kind := _known_layout(source, texts):
        problem = f"the names in {source} are those of {kind}, which needs no layout file"
        command = f"convert {kind.lower()} {shlex.quote(str(source))} --dataset-id 301"
        raise stop("KNOWN_LAYOUT", problem, f"Run: nnunet-transformers {command}")


def _known_layout(source: Path, texts: Collection[str]) -> str:
    names = [name for text in texts if (name := parse(text.rpartition("/")[2])) and "sub" in name.entities]
    if 2 * len(names) >= len(texts) and any(image_name(name.suffix or name.entities.get("acq", "")) for name in names):
        of_atlas = [name for name in names if re.fullmatch(r"(r\d{3}s|soop)\d+", name.entities["sub"], re.IGNORECASE)]
        return "ATLAS" if 2 * len(of_atlas) >= len(names) else "BIDS"
    if any(re.search(r"_lesionsmooth[_.]", text, re.IGNORECASE) for text in texts):
        with contextlib.suppress(ConversionError):
            return "ATLAS" if atlas_v1.find(source).cases else ""
    return ""


def _says_too_little(source: Path, files: Sequence[Named]) -> ConversionError:
    """The error where nothing says which files are images, or whose they are, with the distinct names."""
    images = [file for file in files if file.role not in ("", OTHER, MASK, BARE_MASK)]
    counts = Counter(re.sub(r"\d+", "#", file.name) for file in files)
    shown = tuple((counted(count, "file"), _printable(name)) for name, count in counts.most_common())
    if images:
        problem = f"nothing in the paths under {source} says which files are of one subject"
        remedy = "Give the folder above, if its folders are the subjects; or list the cases in a table (--table)."
        return ConversionError([Finding("NO_SUBJECT", problem, remedy, files=shown)])
    problem = f"no name under {source} says what its image is (T1, FLAIR, MPRAGE, …); these are the names, # for digits"
    remedy = (
        "Rename the files, or write their expressions into a layout file (start from `nnunet-transformers convert "
        "folder --example`)."
    )
    return ConversionError([Finding("NO_IMAGE_NAME", problem, remedy, files=shown)])


def _account(found: Scan, texts: Mapping[str, PurePosixPath]) -> list[str]:
    """What a layout file finds: counts, cases that lack something or have too much, and files that fit nothing."""
    cases = found.cases
    images = list(dict.fromkeys(name for case in cases for name in case.images))
    counts = [f"{sum(bool(case.images.get(name)) for case in cases)} {name}" for name in images]
    subjects = counted(len({case.subject for case in cases}), "subject")
    masks = counted(sum(bool(case.masks) for case in cases), "mask")
    lines = [f"{subjects}, {counted(len(cases), 'case')} (subject and session): {', '.join([*counts, masks])}."]
    if sites := sorted({case.site for case in cases if case.site}):
        lines.append(f"{counted(len(sites), 'site')}: {listed(sites, _NAMES_SHOWN)}.")
    several = _several(found)
    doubtful = {(each.case, each.files[0][0]) for each in several}
    for name in (*images, MASK):
        lacking = [
            case.case
            for case in cases
            if not (case.masks if name == MASK else case.images.get(name)) and (case.case, name) not in doubtful
        ]
        if lacking:
            lines.append(f"No {name}: {counted(len(lacking), 'case')}: {listed(lacking, _NAMES_SHOWN)}.")
    for each in several[:MAX_SHOWN]:
        lines.append(f"{each.case}: {each.problem}; ignore: at the end of the file takes some out:")
        lines += [f"  {_printable(as_text(PurePosixPath(path)))}" for _, path in each.files]
    if len(several) > MAX_SHOWN:
        lines.append(f"… and {len(several) - MAX_SHOWN} more cases with several files for one image.")
    others = [each for each in found.findings if each not in several and each.code not in _TOLD]
    for code, count in Counter(each.code for each in others).items():
        lines += str(next(each for each in others if each.code == code)).splitlines()
        lines += [f"… and {count - 1} more [{code}]"] if count > 1 else []
    used = {path for case in cases for path in (*case.images.values(), *case.masks)}
    used |= {path for each in found.findings if each.severity == "error" for _, path in each.files}
    unused = [text for text, path in texts.items() if str(path) not in used]
    if unused:
        lines.append(f"{len(unused)} of {counted(len(texts), 'NIfTI file')} are not used:")
        lines += [f"  {_printable(text)}" for text in unused[:MAX_SHOWN]]
        if len(unused) > MAX_SHOWN:
            lines.append(f"  … and {len(unused) - MAX_SHOWN} more")
    return lines


def _several(found: Scan) -> list[Finding]:
    return [each for each in found.findings if each.code in ("AMBIGUOUS_IMAGE", "AMBIGUOUS_MASK")]


def _commands(found: Scan, source: Path, path: Path, proposal: Proposal) -> list[str]:
    """The commands to type next, each behind the reason for its options."""
    what = f"folder {shlex.quote(str(source))} --layout {shlex.quote(str(path))}"
    several = suggestions(found, source, lawful=proposal.lawful)
    if not several:
        return [
            "# no case has an image and a mask: write the expression for the masks into the file, and look again:",
            f"nnunet-transformers scan {what}",
        ]
    lines = []
    for options, why in several:
        lines += [f"# {reason}" for reason in why]
        lines += [f"nnunet-transformers convert {what} --dataset-id 301 {options}".rstrip(), ""]
    return lines[:-1]


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
