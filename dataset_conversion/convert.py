"""From a data folder to nnU-Net raw: find the cases, check each of them, and write the dataset if all are sound.

from dataset_conversion.convert import convert

print(convert(Path("ATLAS_2"), dataset_id=201))
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import get_args

from dataset_conversion.case_table import Case
from dataset_conversion.checks import ALLOWABLE, Align, CheckOptions, EmptyMasks, reference_image
from dataset_conversion.errors import ConversionError, stop
from dataset_conversion.fold_lists import Missing
from dataset_conversion.job import Conversion, FoldOptions, GroupBy, Job, no_training_case, run
from dataset_conversion.layouts import LAYOUTS, Layout, Scan
from dataset_conversion.pseudonyms import Pseudonyms, dropped_metadata
from dataset_conversion.selection import Selection, select, without_missing
from dataset_conversion.target import name_problems, new_dataset, raw_folder_or_environment
from dataset_conversion.writing import Link
from nnunet_transformers.common.problems import Finding

# A thread holds one case, about 0.3 GB for a float64 T1 of 197 × 233 × 189 voxels.
DEFAULT_JOBS = min(4, os.cpu_count() or 1)


def scan(source: Path, layout: str | Layout = "atlas") -> Scan:
    """Find the cases of a folder by file name, without opening an image.

    Raises:
        ConversionError: for an unknown layout, or a folder without a case of this layout.
    """
    return _layout(layout).find(Path(source))


def convert(
    source: Path,
    *,
    layout: str | Layout = "atlas",
    dataset_id: int,
    name: str = "ATLAS",
    raw_folder: Path | None = None,
    channels: Sequence[str] = (),
    incomplete_dataset_id: int | None = None,
    exclude: Sequence[str] = (),
    skip_bad: bool = False,
    empty_masks: EmptyMasks = "error",
    allow: Iterable[str] = (),
    reference: str = "",
    align: Align = "refuse",
    resample_mask: bool = False,
    pseudonyms: Path | None = None,
    keep_sites: bool = False,
    link: Link = "auto",
    quick: bool = False,
    pictures: bool = True,
    folds: int = 5,
    seed: int = 12345,
    group_by: GroupBy = "subject",
    fold_list: Path | None = None,
    missing_folds: Missing = "error",
    jobs: int = DEFAULT_JOBS,
    dry_run: bool = False,
) -> Conversion:
    """Convert a folder to ``<raw_folder>/Dataset<NNN>_<name>``.

    The dataset folder appears complete or not at all: cases are checked and written in a hidden folder beside it, which
    an error removes, and from which the same call goes on after an interruption.

    Args:
        source: the data folder; it is only read.
        layout: how the data lie there: a layout, or a key of ``layouts.LAYOUTS``.
        dataset_id: nnU-Net's number for the dataset, 1 to 999.
        name: nnU-Net's name for it, letters and digits, with single - or _ between them.
        raw_folder: where nnU-Net keeps raw datasets; default: the environment variable nnUNet_raw.
        channels: names of the images to convert, in channel order; default: all that the layout has.
        incomplete_dataset_id: makes a second dataset of the cases that lack a channel, with the channels they all have.
        exclude: cases (``sub-r001s001_ses-1``) or subjects (``sub-r001s001``) to leave out, by either of their names
            where there are pseudonyms.
        skip_bad: leave out the cases that fail a check, with the reason in the report, instead of stopping.
        empty_masks: "error" makes a mask without a lesion a failed check, "keep" trains on it, "skip" leaves it out.
        allow: codes of errors to accept, among ``checks.ALLOWABLE``.
        reference: the image whose grid a case of several images gets; default: the one the masks were drawn on.
        align: "refuse" makes images on unequal grids an error, "resample" takes them as they lie in the scanner,
            "rigid" registers them to the reference first.
        resample_mask: let a mask that was drawn on another image follow that one onto the reference.
        pseudonyms: a key file outside the dataset; subjects and sessions get names from it, headers are cleaned.
        keep_sites: leave the names of sites as they are when pseudonymising.
        link: how files that can stay as they are get into the dataset, see `writing.write_case`.
        quick: read headers and masks only.
        pictures: montages in qc.html.
        folds, seed, group_by, fold_list, missing_folds: see `FoldOptions`.
        jobs: cases read at once, one thread each.
        dry_run: find and check, but write nothing.

    Raises:
        ConversionError: naming all that is wrong. Nothing has been written then.
    """
    source = Path(source)
    chosen = _layout(layout)
    fold_options = FoldOptions(folds, seed, group_by, fold_list, missing_folds)
    _check_options(dataset_id, name, empty_masks, align, link, fold_options, allow, jobs)
    raw_folder = raw_folder_or_environment(raw_folder)
    target = new_dataset(raw_folder, dataset_id, name)
    scanned = chosen.find(source)
    secret = b""
    if pseudonyms:
        with Pseudonyms.open(pseudonyms, outside=[raw_folder, source], save=not dry_run) as keys:
            found = select(scanned, channels, _old_names(exclude, scanned.cases, keys))
            found, new_names = _pseudonymised(keys, keep_sites, found)
            secret = keys.key_for("records")
        fold_options = replace(fold_options, aliases=new_names)
        link = "copy"
    else:
        found = select(scanned, channels, exclude)
    cases, findings = found.cases, found.findings
    second = None
    if incomplete_dataset_id is not None:
        second = _second_dataset(found.incomplete, incomplete_dataset_id, dataset_id, raw_folder, name)
        if not second:
            findings += (_no_second_dataset(found.incomplete),)
    if not any(case.split == "train" for case in cases):
        raise no_training_case(findings, found.exclusions, source)
    options = CheckOptions(
        empty_masks=empty_masks,
        allow=frozenset(allow),
        reference=_reference(reference or chosen.drawn_on, cases, source),
        align=align,
        resample_mask=resample_mask,
        quick=quick,
        clean=pseudonyms is not None,
    )
    job = Job(
        target=target,
        cases=cases,
        exclusions=found.exclusions,
        findings=findings,
        source=source,
        layout=chosen,
        options=options,
        fold_options=fold_options,
        link=link,
        pictures=pictures and not quick,
        skip_bad=skip_bad,
        jobs=jobs,
        secret=secret,
    )
    if not second:
        return run([job], dry_run=dry_run)[0]
    rest, second_target = second
    of_rest = replace(
        job,
        target=second_target,
        cases=rest,
        exclusions=(),
        findings=(),
        options=replace(options, reference=_reference("", rest, source)),
        fold_options=replace(fold_options, fold_list=None),
    )
    result, incomplete = run([job, of_rest], dry_run=dry_run)
    return replace(result, incomplete=incomplete)


def _layout(layout: str | Layout) -> Layout:
    if isinstance(layout, Layout):
        return layout
    if layout not in LAYOUTS:
        raise stop("UNKNOWN_LAYOUT", f"no layout is called {layout!r}", f"There is: {', '.join(sorted(LAYOUTS))}.")
    return LAYOUTS[layout]


def _check_options(
    dataset_id: int,
    name: str,
    empty_masks: str,
    align: str,
    link: str,
    folds: FoldOptions,
    allow: Iterable[str],
    jobs: int,
) -> None:
    problems = name_problems(dataset_id, name)
    for option, value, choices in (
        ("empty_masks", empty_masks, get_args(EmptyMasks)),
        ("align", align, get_args(Align)),
        ("link", link, get_args(Link)),
        ("group_by", folds.group_by, get_args(GroupBy)),
        ("missing_folds", folds.missing, get_args(Missing)),
    ):
        if value not in choices:
            problems.append(f"{option} is {value!r}; choose {', '.join(choices)}")
    problems += [
        f"{code} cannot be allowed; these can: {', '.join(ALLOWABLE)}" for code in allow if code not in ALLOWABLE
    ]
    if folds.number < 2:
        problems.append(f"{folds.number} folds; cross-validation needs at least 2")
    if jobs < 1:
        problems.append(f"{jobs} jobs; at least 1 is needed")
    if problems:
        raise ConversionError([Finding("BAD_OPTION", problem) for problem in problems])


def _reference(asked: str, cases: Sequence[Case], source: Path) -> str:
    """The image whose grid each case gets."""
    channels = list(cases[0].images)
    if not asked:
        return reference_image(cases, source) if len(channels) > 1 else channels[0]
    by_name = {channel.casefold(): channel for channel in channels}
    if asked.casefold() not in by_name:
        problem = f"the reference {asked} is not among the channels {', '.join(channels)}"
        raise stop("BAD_OPTION", problem, "Choose one of them with --reference, or add it to --channels.")
    return by_name[asked.casefold()]


def _second_dataset(
    incomplete: Sequence[Case], dataset_id: int, first_id: int, raw_folder: Path, name: str
) -> tuple[Sequence[Case], Path] | None:
    """The incomplete cases and where they go, if there are any to train on."""
    if not any(case.split == "train" for case in incomplete):
        return None
    if dataset_id == first_id:
        raise stop("BAD_OPTION", f"both datasets would have the id {dataset_id}", "Give the second one another id.")
    rest = without_missing(incomplete)
    name = "_".join((name, *rest[0].images))
    problems = name_problems(dataset_id, name)
    if problems:
        raise ConversionError([Finding("BAD_OPTION", problem) for problem in problems])
    return rest, new_dataset(raw_folder, dataset_id, name)


def _no_second_dataset(incomplete: Sequence[Case]) -> Finding:
    why = f"all {len(incomplete)} cases that lack an image are test cases" if incomplete else "no case lacks an image"
    return Finding("NO_SECOND_DATASET", f"there is no second dataset: {why}", severity="warning")


def _old_names(exclude: Sequence[str], cases: Sequence[Case], keys: Pseudonyms) -> list[str]:
    """Cases and subjects to leave out, by the names they have in the source."""
    return [old for name in exclude for old in [case.case for case in cases if name in keys.known(case)] or [name]]


def _pseudonymised(keys: Pseudonyms, keep_sites: bool, found: Selection) -> tuple[Selection, dict[str, str]]:
    """The same under other names, in their order; and the new names of cases and subjects by the old ones."""
    # An incomplete case is among those left out as well.
    by_name = {case.case: case for case in (*found.cases, *found.incomplete, *(one.case for one in found.exclusions))}
    everyone = list(by_name.values())
    others = keys.pseudonymise(everyone, keep_site=keep_sites)
    renamed = {case.case: other for case, other in zip(everyone, others, strict=True)}

    def rename(case: Case) -> Case:
        return replace(renamed[case.case], images=case.images)

    exclusions = [replace(one, case=rename(one.case)) for one in found.exclusions]
    findings = [replace(each, case=renamed[each.case].case if each.case in renamed else "") for each in found.findings]
    selection = Selection(
        cases=tuple(sorted(map(rename, found.cases), key=attrgetter("case"))),
        incomplete=tuple(sorted(map(rename, found.incomplete), key=attrgetter("case"))),
        exclusions=tuple(sorted(exclusions, key=attrgetter("case.case"))),
        findings=(*sorted(findings, key=attrgetter("case")), *dropped_metadata(everyone)),
    )
    pairs = list(zip(everyone, others, strict=True))
    new_names = {old.subject: new.subject for old, new in pairs} | {old.case: new.case for old, new in pairs}
    return selection, new_names
