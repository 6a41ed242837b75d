"""From a data folder to nnU-Net raw: find the cases, check all of them, and only then write the dataset.

from dataset_conversion.convert import convert

print(convert(Path("ATLAS_2"), dataset_id=201))
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args

from tqdm import tqdm

from dataset_conversion import case_table, report
from dataset_conversion.case_table import Case
from dataset_conversion.checks import CheckedCase, EmptyMasks, across_cases, check_case
from dataset_conversion.errors import ConversionError, Finding, stop
from dataset_conversion.layouts import LAYOUTS, Layout, Scan
from dataset_conversion.report import Exclusion
from dataset_conversion.splits import Member, Split, grouped_folds
from dataset_conversion.staging import new_folder
from dataset_conversion.writing import Link, write_case

T = TypeVar("T")
R = TypeVar("R")

# A thread holds one case, about 0.3 GB for a float64 T1 of 197 × 233 × 189 voxels.
DEFAULT_JOBS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class Conversion:
    """What `convert` did, or with ``dry_run`` would do."""

    folder: Path
    written: bool
    cases: tuple[Case, ...]
    excluded: tuple[Exclusion, ...]
    warnings: tuple[Finding, ...]
    folds: int
    unchanged_files: int
    rewritten_files: int

    @property
    def n_training(self) -> int:
        return sum(case.split == "train" for case in self.cases)

    @property
    def n_test(self) -> int:
        return len(self.cases) - self.n_training

    def __str__(self) -> str:
        subjects = len({case.subject for case in self.cases})
        lines = [
            f"{self.n_training} training and {self.n_test} test cases of {subjects} subjects, {self.folds} folds",
            f"{self.unchanged_files} files used as they are, {self.rewritten_files} rewritten",
        ]
        if self.excluded:
            lines.append(f"{len(self.excluded)} cases left out:")
            lines += [f"  {one.case.case}: {one.reason} [{one.code}]" for one in self.excluded]
        by_code: dict[str, list[Finding]] = {}
        for warning in self.warnings:
            by_code.setdefault(warning.code, []).append(warning)
        for code, same in by_code.items():
            first = f"{same[0].case}: {same[0].problem}".removeprefix(": ")
            more = f", and {len(same) - 1} more (see conversion_report.json)" if len(same) > 1 else ""
            lines.append(f"Warning: {first}. {same[0].remedy}".rstrip() + f" [{code}]{more}")
        lines.append(str(self.folder) if self.written else f"Dry run: nothing was written; would be {self.folder}")
        return "\n".join(lines)


def scan(source: Path, layout: str = "atlas") -> Scan:
    """Find the cases of a folder by file name, without opening a file.

    Raises:
        ConversionError: for an unknown layout, or a folder without a case of this layout.
    """
    return _layout(layout).find(Path(source))


def convert(
    source: Path,
    *,
    layout: str = "atlas",
    dataset_id: int,
    name: str = "ATLAS",
    raw_folder: Path | None = None,
    exclude: Sequence[str] = (),
    skip_bad: bool = False,
    empty_masks: EmptyMasks = "error",
    link: Link = "auto",
    folds: int = 5,
    seed: int = 12345,
    jobs: int = DEFAULT_JOBS,
    dry_run: bool = False,
) -> Conversion:
    """Convert a folder to ``<raw_folder>/Dataset<NNN>_<name>``.

    Every case is checked before anything is written, and the dataset folder appears complete or not at all.

    Args:
        source: the data folder; it is only read.
        layout: how the data lie there, a key of ``layouts.LAYOUTS``.
        dataset_id: nnU-Net's number for the dataset, 1 to 999.
        name: nnU-Net's name for it, letters and digits, with single - or _ between them.
        raw_folder: where nnU-Net keeps raw datasets; default: the environment variable nnUNet_raw.
        exclude: cases (``sub-r001s001_ses-1``) or subjects (``sub-r001s001``) to leave out.
        skip_bad: leave out the cases that fail a check, with the reason in the report, instead of stopping.
        empty_masks: "error" makes a mask without a lesion a failed check, "keep" trains on it, "skip" leaves it out.
        link: "auto" hard-links files that can stay as they are (copies them where that is impossible), "copy" copies.
        folds: number of cross-validation folds in splits_final.json.
        seed: another seed gives other folds.
        jobs: cases read at once, one thread each.
        dry_run: find and check, but write nothing.

    Raises:
        ConversionError: naming all that is wrong. Nothing has been written then.
    """
    source = Path(source)
    chosen = _layout(layout)
    _check_options(name, dataset_id, empty_masks, link, folds, jobs)
    target = _target(raw_folder, dataset_id, name)
    found = chosen.find(source)
    kept, exclusions = _check_all(found, source, exclude, skip_bad, empty_masks, jobs)

    splits, split_warnings = _folds(kept, folds, seed)
    warnings = [
        *(warning for one in kept for warning in one.findings),
        *_known_issues(chosen, kept),
        *across_cases(kept),
        *split_warnings,
    ]
    options = {
        "dataset": target.name,
        "exclude": sorted(exclude),
        "skip_bad": skip_bad,
        "empty_masks": empty_masks,
        "folds": folds,
        "seed": seed,
    }
    channels = list(kept[0].case.images)
    n_training = sum(one.case.split == "train" for one in kept)
    texts = {
        "dataset.json": report.to_json(report.dataset_json(name, chosen.about, channels, n_training)),
        "cases.tsv": case_table.to_tsv([one.case for one in kept]),
        "conversion_report.json": report.to_json(
            report.conversion_report(
                layout=layout, options=options, checked=kept, exclusions=exclusions, warnings=warnings
            )
        ),
    }
    if splits:
        texts["splits_final.json"] = report.to_json(splits)
    if not dry_run:
        _write(kept, texts, source, target, link, jobs)
    files = [file for one in kept if one.content for file in (*one.content.images, one.content.mask) if file]
    return Conversion(
        folder=target,
        written=not dry_run,
        cases=tuple(one.case for one in kept),
        excluded=tuple(exclusions),
        warnings=(*warnings, *_stale_preprocessing(target.name)),
        folds=len(splits),
        unchanged_files=sum(not file.changes for file in files),
        rewritten_files=sum(bool(file.changes) for file in files),
    )


def _layout(name: str) -> Layout:
    if name not in LAYOUTS:
        raise stop("UNKNOWN_LAYOUT", f"no layout is called {name!r}", f"There is: {', '.join(sorted(LAYOUTS))}.")
    return LAYOUTS[name]


def _check_options(name: str, dataset_id: int, empty_masks: str, link: str, folds: int, jobs: int) -> None:
    problems = []
    if not 1 <= dataset_id <= 999:
        problems.append(f"the dataset id is {dataset_id}; nnU-Net's go from 1 to 999")
    # nnU-Net joins trainer, plans and configuration with a double underscore, and takes names apart there.
    if not re.fullmatch(r"[A-Za-z0-9]+([_-][A-Za-z0-9]+)*", name):
        problems.append(f"the name is {name!r}; use letters and digits, with single - or _ between them")
    if empty_masks not in get_args(EmptyMasks):
        problems.append(f"empty_masks is {empty_masks!r}; choose {', '.join(get_args(EmptyMasks))}")
    if link not in get_args(Link):
        problems.append(f"link is {link!r}; choose {', '.join(get_args(Link))}")
    if folds < 2:
        problems.append(f"{folds} folds; cross-validation needs at least 2")
    if jobs < 1:
        problems.append(f"{jobs} jobs; at least 1 is needed")
    if problems:
        raise ConversionError([Finding("BAD_OPTION", problem) for problem in problems])


def _target(raw_folder: Path | None, dataset_id: int, name: str) -> Path:
    """The dataset folder to make, after making sure that nnU-Net can tell it from all others."""
    if raw_folder is None:
        if not os.environ.get("nnUNet_raw"):
            remedy = "Run: export nnUNet_raw=/path/to/nnUNet_raw (or give the folder)."
            raise stop("NO_RAW_FOLDER", "the environment variable nnUNet_raw is not set", remedy)
        raw_folder = Path(os.environ["nnUNet_raw"])
    target = Path(raw_folder) / f"Dataset{dataset_id:03d}_{name}"
    if os.path.lexists(target):
        raise stop("TARGET_EXISTS", f"{target} exists already", "Delete it yourself, or choose another dataset id.")
    places = {Path(raw_folder)}
    places |= {Path(os.environ[key]) for key in ("nnUNet_preprocessed", "nnUNet_results") if os.environ.get(key)}
    for place in sorted(places):
        for other in sorted(place.glob(f"Dataset{dataset_id:03d}*")):
            if other.name != target.name:
                problem = f"dataset id {dataset_id} is taken by {other}; nnU-Net refuses two datasets with one id"
                raise stop("ID_TAKEN", problem, "Choose another dataset id.")
    return target


def _check_all(
    found: Scan, source: Path, exclude: Sequence[str], skip_bad: bool, empty_masks: EmptyMasks, jobs: int
) -> tuple[list[CheckedCase], list[Exclusion]]:
    """The cases to convert, all of which passed, and those to leave out; stops with all errors where some did not."""
    cases, exclusions, findings = _leave_out(found, exclude)
    bad = {finding.case for finding in findings}
    readable = [case for case in cases if case.case not in bad]
    checked = _map(lambda case: check_case(case, source, empty_masks), readable, jobs, "checking")
    findings += [finding for one in checked for finding in one.findings]
    errors = sorted((finding for finding in findings if finding.severity == "error"), key=lambda error: error.case)
    if errors and (not skip_bad or any(not error.case for error in errors)):
        raise ConversionError(errors, _outcome(errors, cases))
    exclusions += _exclude_bad(cases, errors)
    if empty_masks == "skip":
        exclusions += [Exclusion(one.case, "EMPTY_MASK", "the mask is empty") for one in checked if _is_empty(one)]
    left_out = {one.case.case for one in exclusions}
    kept = [one for one in checked if one.case.case not in left_out]
    if not any(one.case.split == "train" for one in kept):
        reasons = errors or [Finding("NO_TRAINING_CASES", f"no training case among {len(found.cases)} under {source}")]
        raise ConversionError(reasons, "No training case is left. Nothing was written.")
    return kept, exclusions


def _leave_out(found: Scan, exclude: Sequence[str]) -> tuple[list[Case], list[Exclusion], list[Finding]]:
    """Take the cases out that the user excludes, and the findings about them."""
    known = {name for case in found.cases for name in (case.case, case.subject)}
    unknown = [name for name in exclude if name not in known]
    if unknown:
        problem = f"to be excluded, but not found: {', '.join(unknown)}"
        raise stop("UNKNOWN_EXCLUDE", problem, "Name cases or subjects as the scan lists them.")
    asked = set(exclude)
    out = [case for case in found.cases if asked & {case.case, case.subject}]
    names_out = {case.case for case in out}
    exclusions = [Exclusion(case, "EXCLUDED", "excluded by the user") for case in out]
    cases = [case for case in found.cases if case.case not in names_out]
    return cases, exclusions, [finding for finding in found.findings if finding.case not in names_out]


def _exclude_bad(cases: Sequence[Case], errors: Sequence[Finding]) -> list[Exclusion]:
    """One exclusion per case that has errors, naming all of them."""
    exclusions = []
    for case in cases:
        own = [error for error in errors if error.case == case.case]
        if own:
            codes = ", ".join(error.code for error in own)
            exclusions.append(Exclusion(case, codes, "; ".join(error.problem for error in own)))
    return exclusions


def _outcome(errors: Sequence[Finding], cases: Sequence[Case]) -> str:
    bad = len({error.case for error in errors if error.case})
    summary = f"{bad} of {len(cases)} cases cannot be converted (--skip-bad leaves them out). " if bad else ""
    return summary + "Nothing was written."


def _is_empty(checked: CheckedCase) -> bool:
    return checked.content is not None and checked.content.lesion is not None and not checked.content.lesion.voxels


def _folds(kept: Sequence[CheckedCase], folds: int, seed: int) -> tuple[list[Split], list[Finding]]:
    """Folds of the training cases; fewer than asked for, with a warning, where there are fewer subjects."""
    members = [
        Member(one.case.case, one.case.subject, one.content.lesion.ml)
        for one in kept
        if one.case.split == "train" and one.content and one.content.lesion
    ]
    subjects = len({member.group for member in members})
    possible = min(folds, subjects)
    if possible < 2:
        remedy = 'Train with fold "all".'
        return [], [Finding("NO_FOLDS", "one training subject cannot be split into folds", remedy, severity="warning")]
    warnings = []
    if possible < folds:
        problem = f"{subjects} training subjects make {possible} folds, not {folds}"
        remedy = f"Train folds 0 to {possible - 1} only: beyond, nnU-Net splits at random."
        warnings.append(Finding("FEWER_FOLDS", problem, remedy, severity="warning"))
    return grouped_folds(members, possible, seed), warnings


def _known_issues(layout: Layout, kept: Sequence[CheckedCase]) -> list[Finding]:
    return [
        Finding(
            *("KNOWN_ISSUE", f"reported of {issue.release}: {issue.problem} ({issue.source})", "Look at it."),
            case=one.case.case,
            severity="warning",
        )
        for one in kept
        for issue in layout.known_issues
        if issue.subject == one.case.subject
    ]


def _stale_preprocessing(name: str) -> list[Finding]:
    """nnU-Net's planner stops with a bare assertion where an earlier conversion had other folds."""
    preprocessed = os.environ.get("nnUNet_preprocessed")
    if not preprocessed or not (Path(preprocessed) / name / "splits_final.json").exists():
        return []
    problem = f"nnUNet_preprocessed/{name} is from an earlier conversion"
    return [Finding("STALE_PREPROCESSED", problem, "Delete it before you plan again.", severity="warning")]


def _write(
    kept: Sequence[CheckedCase], texts: dict[str, str], source: Path, target: Path, link: Link, jobs: int
) -> None:
    folders = {"imagesTr", "labelsTr", "imagesTs"}
    if any(one.case.split == "test" and one.case.masks for one in kept):
        folders.add("labelsTs")
    try:
        with new_folder(target) as staging:
            for folder in sorted(folders):
                (staging / folder).mkdir()
            _map(lambda one: write_case(one, source, staging, link), kept, jobs, "writing")
            for name, text in texts.items():
                (staging / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    except OSError as error:
        problem = f"cannot write {target}: {error.strerror or error}"
        finding = Finding("CANNOT_WRITE", problem, "Check the folder's permissions and the free space.")
        raise ConversionError([finding], "Nothing was left there.") from None


def _map(function: Callable[[T], R], items: Sequence[T], jobs: int, description: str) -> list[R]:
    """Apply a function in threads with a progress bar; results in the order of the items."""
    executor = ThreadPoolExecutor(jobs)
    try:
        futures = [executor.submit(function, item) for item in items]
        finished: Iterable[object] = as_completed(futures)
        for future in tqdm(finished, description, len(futures), unit="case", file=sys.stderr):
            future.result()
        return [future.result() for future in futures]
    finally:
        executor.shutdown(cancel_futures=True)
