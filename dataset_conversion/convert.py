"""From a data folder to nnU-Net raw: find the cases, check each of them, and write the dataset if all are sound.

print(convert(Path("ATLAS_2"), "atlas", Target(201, "ATLAS"), ConvertOptions(checks=Checks(skip_bad=True))))
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from operator import attrgetter
from pathlib import Path

from dataset_conversion.checks.case import reference_image
from dataset_conversion.dataset.target import finish_earlier, name_problems, new_dataset, raw_folder_or_environment
from dataset_conversion.errors import ConversionError, stop
from dataset_conversion.job import Conversion, Job, no_training_case, run
from dataset_conversion.layouts import LAYOUTS, Layout, Scan
from dataset_conversion.options import ALLOWABLE, ConvertOptions, Masks, Target
from dataset_conversion.pseudonyms import Pseudonyms, dropped_metadata
from dataset_conversion.selection import Selection, select, without_missing
from dataset_conversion.tables.case_table import Case
from nnunet_transformers.common.command_line import wrong_choices
from nnunet_transformers.common.problems import Finding

_LONGEST_NAME = 200  # of 255 that file systems take


def scan(source: Path, layout: str | Layout = "atlas") -> Scan:
    """Find the cases of a folder by file name, without opening an image.

    Raises:
        ConversionError: for an unknown layout, or a folder without a case of this layout.
    """
    return _layout(layout).find(Path(source))


def convert(source: Path, layout: str | Layout, target: Target, options: ConvertOptions | None = None) -> Conversion:
    """Convert a folder to `<raw_folder>/Dataset<NNN>_<name>`.

    The dataset folder appears complete or not at all: cases are checked and written in a hidden folder beside it, which
    an error removes, and from which the same call goes on after an interruption, or when a full disk has room again.

    Args:
        source: the data folder; it is only read.
        layout: how the data lie there: a layout, or a key of `layouts.LAYOUTS`.
        target: the dataset to make.
        options: see `options.py`; all have defaults.

    Raises:
        ConversionError: naming all that is wrong. Nothing has been written then, but in that folder where it says so.
    """
    source = Path(source)
    options = options or ConvertOptions()
    chosen = _layout(layout)
    if chosen.masks.chosen and not options.masks.chosen:
        options = replace(options, masks=chosen.masks)
    _check_options(target, options)
    raw_folder = raw_folder_or_environment(target.raw_folder)
    finished = [] if options.work.dry_run else finish_earlier(raw_folder)
    folder = new_dataset(raw_folder, target.dataset_id, target.name, finished)
    scanned = chosen.find(source)
    channels, exclude, privacy = options.channels, options.checks.exclude, options.privacy
    secret, link = b"", target.link
    new_names: dict[str, str] = {}
    if privacy.pseudonyms:
        # A name that no file could have is not written; `select` says which names are of one person.
        scanned = replace(scanned, findings=tuple(each for each in scanned.findings if each.code != "CASE_NAME"))
        outside = [raw_folder, source]
        with Pseudonyms.open(privacy.pseudonyms, outside=outside, save=not options.work.dry_run) as keys:
            found = select(scanned, channels.names, _old_names(exclude, scanned.cases, keys))
            found, new_names = _pseudonymised(keys, privacy.keep_sites, found)
            secret = keys.key_for("records")
        link = "copy"
    else:
        found = select(scanned, channels.names, exclude)
    second = None
    findings = (*found.findings, *_long_names([*found.cases, *found.incomplete]))
    if channels.incomplete_dataset_id is not None:
        second = _second_dataset(found.incomplete, channels.incomplete_dataset_id, target, raw_folder)
        if not second:
            findings += (_no_second_dataset(found.incomplete),)
    if not any(case.split == "train" for case in found.cases):
        raise no_training_case(findings, found.exclusions, source, found.cases)
    reference = _reference(options.alignment.reference or chosen.drawn_on, found.cases, source)
    job = Job(
        target=folder,
        cases=found.cases,
        exclusions=found.exclusions,
        findings=findings,
        source=source,
        layout=chosen,
        options=_with_reference(options, reference),
        link=link,
        secret=secret,
        aliases=new_names,
    )
    if not second:
        return run([job], dry_run=options.work.dry_run)[0]
    rest, second_folder = second
    without_list = replace(options, folds=replace(options.folds, fold_list=None))
    of_rest = replace(
        job,
        target=second_folder,
        cases=rest,
        exclusions=(),
        findings=(),
        options=_with_reference(without_list, _reference("", rest, source)),
    )
    result, incomplete = run([job, of_rest], dry_run=options.work.dry_run)
    return replace(result, incomplete=incomplete)


def _long_names(cases: Sequence[Case]) -> list[Finding]:
    """Cases whose files would have longer names than file systems take, with the channel's number and their endings."""
    return [
        Finding(
            "CASE_NAME",
            f"the name has {length} bytes; with the endings of nnU-Net's files it may have {_LONGEST_NAME}",
            "Give it a shorter one in the case table (scan, edit, convert --table), or --pseudonymise.",
            case.case,
        )
        for case in cases
        if (length := len(os.fsencode(case.case))) > _LONGEST_NAME
    ]


def _layout(layout: str | Layout) -> Layout:
    if isinstance(layout, Layout):
        return layout
    if layout not in LAYOUTS:
        raise stop("UNKNOWN_LAYOUT", f"no layout is called {layout!r}", f"There is: {', '.join(sorted(LAYOUTS))}.")
    return LAYOUTS[layout]


def _check_options(target: Target, options: ConvertOptions) -> None:
    problems = name_problems(target.dataset_id, target.name)
    problems += [*wrong_choices(target), *wrong_choices(options)]
    problems += [
        f"{code} cannot be allowed; these can: {', '.join(ALLOWABLE)}"
        for code in options.checks.allow
        if code not in ALLOWABLE
    ]
    problems += _mask_problems(options.masks)
    if options.folds.number < 2:
        problems.append(f"{options.folds.number} folds; cross-validation needs at least 2")
    if options.work.jobs < 1:
        problems.append(f"{options.work.jobs} jobs; at least 1 is needed")
    if problems:
        raise ConversionError([Finding("BAD_OPTION", problem) for problem in problems])


def _mask_problems(masks: Masks) -> list[str]:
    if bool(masks.labels) + bool(masks.regions) + (masks.threshold is not None) > 1:
        return ["what is lesion is said by labels, by a threshold or by regions, not in two ways"]
    try:
        values, regions = masks.values, masks.values_of_regions
    except ValueError:
        given = " ".join(masks.labels or masks.regions)
        how = "regions are NAME=VALUES, such as lesion=1,2,4 core=1,4" if masks.regions else "such as 1 2 4"
        return [f"{given}: the labels of a mask are numbers, {how}"]
    if 0 in values or any(0 in own for own in regions.values()):
        return ["0 is what is no lesion in a mask"]
    if len(regions) < len(masks.regions):
        return [f"{' '.join(masks.regions)}: two regions of one name"]
    if {"", "background"} & regions.keys():
        return [f"{' '.join(masks.regions)}: a region needs a name, and another one than background"]
    return [
        f"the region {inner} must have fewer labels than {outer}, and no others; write the largest region first"
        for (outer, all_of_it), (inner, part_of_it) in pairwise(regions.items())
        if not set(part_of_it) < set(all_of_it)
    ]


def _with_reference(options: ConvertOptions, reference: str) -> ConvertOptions:
    return replace(options, alignment=replace(options.alignment, reference=reference))


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
    incomplete: Sequence[Case], dataset_id: int, first: Target, raw_folder: Path
) -> tuple[Sequence[Case], Path] | None:
    """The incomplete cases and where they go, if there are any to train on."""
    if not any(case.split == "train" for case in incomplete):
        return None
    if dataset_id == first.dataset_id:
        raise stop("BAD_OPTION", f"both datasets would have the id {dataset_id}", "Give the second one another id.")
    rest = without_missing(incomplete)
    name = "_".join((first.name, *rest[0].images))
    problems = name_problems(dataset_id, name)
    if problems:
        raise ConversionError([Finding("BAD_OPTION", problem) for problem in problems])
    return rest, new_dataset(raw_folder, dataset_id, name)


def _no_second_dataset(incomplete: Sequence[Case]) -> Finding:
    why = (
        f"all {len(incomplete)} cases that lack an image are test cases"
        if incomplete
        else "no case lacks some of its images"
    )
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
