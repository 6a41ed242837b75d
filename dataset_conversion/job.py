"""One dataset: check and write its cases, judge what was found, and write what is about it as a whole."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from dataset_conversion.checks.across import across_cases
from dataset_conversion.checks.case import CheckedCase, check_case
from dataset_conversion.dataset import records, report
from dataset_conversion.dataset.records import Record, Records
from dataset_conversion.dataset.target import refuse_taken, stale_preprocessing
from dataset_conversion.dataset.writing import destinations, referenced, write_case
from dataset_conversion.errors import ConversionError
from dataset_conversion.folds.fold_lists import read_fold_list
from dataset_conversion.folds.splits import Member, Split, centre_folds, centre_groups, check_folds, grouped_folds
from dataset_conversion.layouts import Layout
from dataset_conversion.options import ConvertOptions, Link
from dataset_conversion.qc import coarse, montage, occupancy
from dataset_conversion.selection import Exclusion
from dataset_conversion.tables import case_table
from dataset_conversion.tables.case_table import Case
from nnunet_transformers.common import interrupts
from nnunet_transformers.common.problems import MAX_SHOWN, Finding
from nnunet_transformers.common.staging import new_folders, partial_folder
from nnunet_transformers.common.words import counted, joined

_NOT_KEPT = "told when the data were converted, not kept here: it may quote names of source files"

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Conversion:
    """What `convert` did, or with `dry_run` would do.

    Attributes:
        incomplete: the dataset of the cases that lack a channel, where one was asked for.
    """

    folder: Path
    written: bool
    cases: tuple[Case, ...]
    excluded: tuple[Exclusion, ...]
    warnings: tuple[Finding, ...]
    folds: int
    unchanged_files: int
    rewritten_files: int
    incomplete: Conversion | None = None

    @property
    def n_training(self) -> int:
        return sum(case.split == "train" for case in self.cases)

    @property
    def n_test(self) -> int:
        return len(self.cases) - self.n_training

    def __str__(self) -> str:
        subjects = len({case.subject for case in self.cases})
        warnings = self._warning_lines()
        lines = [
            *(line for code, line in warnings.items() if code == "PRESUMED_MASK"),
            f"{self.n_training} training and {self.n_test} test cases of {subjects} subjects, {self.folds} folds",
            f"{self.unchanged_files} files used as they are, {self.rewritten_files} rewritten",
        ]
        if self.excluded:
            lines.append(f"{len(self.excluded)} cases left out:")
            lines += _first([f"  {one.case.case}: {one.reason} [{one.code}]" for one in self.excluded])
        lines += [line for code, line in warnings.items() if code != "PRESUMED_MASK"]
        if self.incomplete:
            lines += ["", f"Cases that lack a channel, with {', '.join(self.incomplete.cases[0].images)} only:"]
            lines += [str(self.incomplete), ""]
        lines.append(str(self.folder) if self.written else f"Dry run: nothing was written; would be {self.folder}")
        return "\n".join(lines)

    def _warning_lines(self) -> dict[str, str]:
        """One line for each code."""
        by_code: dict[str, list[Finding]] = {}
        for warning in self.warnings:
            by_code.setdefault(warning.code, []).append(warning)
        lines = {}
        for code, same in by_code.items():
            first = f"{same[0].case}: {same[0].problem}".removeprefix(": ")
            more = f", and {len(same) - 1} more (see conversion_report.json)" if len(same) > 1 else ""
            shown = [] if same[0].case else _first([f"  {role}  {name}" for role, name in same[0].files])
            lines[code] = "\n".join([f"Warning: {first}. {same[0].remedy}".rstrip() + f" [{code}]{more}", *shown])
        return lines


def _first(lines: Sequence[str]) -> list[str]:
    more = [f"  … and {len(lines) - MAX_SHOWN} more (see conversion_report.json)"] if len(lines) > MAX_SHOWN else []
    return [*lines[:MAX_SHOWN], *more]


@dataclass(frozen=True)
class Job:
    """One dataset to write.

    Attributes:
        findings: of the scan and the selection.
        options: with the reference that was found for these cases.
        link: how unchanged files get into the dataset.
        secret: of the pseudonyms, for `Records`.
        aliases: other names of cases and subjects that a fold list may use → theirs.
    """

    target: Path
    cases: Sequence[Case]
    exclusions: Sequence[Exclusion]
    findings: Sequence[Finding]
    source: Path
    layout: Layout
    options: ConvertOptions
    link: Link
    secret: bytes = b""
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def pictures(self) -> bool:
        return self.options.checks.pictures and not self.options.checks.quick

    def process(self, staging: Path | None) -> list[Record]:
        """Check all cases and write them, but those that an interrupted run has done; only check without a folder."""
        bad = {finding.case for finding in self.findings if finding.severity == "error"}
        cases = [case for case in self.cases if case.case not in bad]
        if staging is None:
            return _map(self._only_check, cases, self.options.work.jobs, "checking")
        for folder in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
            (staging / folder).mkdir(exist_ok=True)
        kept = Records(staging, self.source, self._what_records_depend_on(), self.secret)

        def process(case: Case) -> Record:
            record = kept.load(case)
            if record is None:
                record = self._do(case, staging)
                if record.checked.content:
                    files = destinations(record.checked)
                    kept.save(record, [path for file, path in files if not referenced(record.checked, file, self.link)])
            return record

        return _map(process, cases, self.options.work.jobs, "converting")

    def _only_check(self, case: Case) -> Record:
        return Record(check_case(case, self.source, self.options)[0])

    def _do(self, case: Case, staging: Path) -> Record:
        checked, voxels = check_case(case, self.source, self.options)
        if voxels is None:
            return Record(checked)
        write_case(checked, voxels, self.source, staging, self.link)
        images = {role: image.voxels for role, image in voxels.images.items() if image.voxels is not None}
        mask = voxels.mask.voxels if voxels.mask else None
        cells = coarse(mask) if mask is not None else None
        assert checked.content is not None
        return Record(
            checked,
            montage(images, mask, checked.content.spacing, cells) if self.pictures and images else None,
            occupancy(cells) if cells is not None else None,
        )

    def _what_records_depend_on(self) -> dict[str, object]:
        return {
            **asdict(self.options.alignment),
            "masks": asdict(self.options.masks),
            **{
                name: value
                for name, value in asdict(self.options.checks).items()
                if name not in ("exclude", "skip_bad")
            },
            "allow": sorted(set(self.options.checks.allow)),
            "clean": self.options.privacy.cleans,
            "link": self.link,
            "pictures": self.pictures,
            "version": report.version("nnunet-transformers"),
        }

    def finish(self, staging: Path | None, done: Sequence[Record]) -> Conversion:
        """Judge what was found, and write all that is about the dataset as a whole."""
        kept, exclusions, warnings = self._judge([record.checked for record in done])
        splits, split_warnings = self._folds(kept, exclusions)
        warnings += split_warnings
        if staging:
            names = {one.case.case for one in kept}
            shown = [record for record in done if record.checked.case.case in names]
            told, reasons = warnings, exclusions
            if self.options.privacy.cleans:
                told = _without_sources(warnings, self.findings)
                reasons = [replace(one, reason=one.code) for one in exclusions]
                shown = [_without_files(record) for record in shown]
            texts = self._texts(kept, reasons, told, splits)
            page = report.qc_html(self.target.name, shown, splits, told, reasons, self._facts(kept))
            _complete(staging, kept, {**texts, "qc.html": page})
        files = [file for one in kept for file, _ in destinations(one)]
        return Conversion(
            folder=self.target,
            written=staging is not None,
            cases=tuple(one.case for one in kept),
            excluded=tuple(exclusions),
            warnings=(*warnings, *stale_preprocessing(self.target.name)),
            folds=len(splits),
            unchanged_files=sum(not file.changes for file in files),
            rewritten_files=sum(bool(file.changes) for file in files),
        )

    def _judge(self, checked: Sequence[CheckedCase]) -> tuple[list[CheckedCase], list[Exclusion], list[Finding]]:
        """The cases to keep, those to leave out, and all warnings; stops with all errors where some may not be left."""
        everything = [*self.findings, *(finding for one in checked for finding in one.findings)]
        errors = sorted((each for each in everything if each.severity == "error"), key=lambda error: error.case)
        if errors and (not self.options.checks.skip_bad or any(not error.case for error in errors)):
            raise ConversionError(errors, _outcome(errors, self.cases))
        failed = _exclude_bad(self.cases, errors)
        if self.options.checks.empty_masks == "skip":
            failed += [Exclusion(one.case, "EMPTY_MASK", "the mask is empty") for one in checked if _is_empty(one)]
        left_out = {one.case.case for one in failed}
        exclusions = [*self.exclusions, *failed]
        kept = [one for one in checked if one.case.case not in left_out]
        if not any(one.case.split == "train" for one in kept):
            raise no_training_case(errors, exclusions, self.source, [one.case for one in kept])
        together = across_cases(kept, self.source, self.options.checks.allow)
        errors = [each for each in together if each.severity == "error"]
        if errors:
            raise ConversionError(errors)
        warnings = [
            *(each for each in self.findings if each.severity == "warning"),
            *(each for one in kept for each in one.findings),
            *_known_issues(self.layout, kept),
            *together,
        ]
        return kept, exclusions, warnings

    def _folds(self, kept: Sequence[CheckedCase], exclusions: Sequence[Exclusion]) -> tuple[list[Split], list[Finding]]:
        """Folds of the training cases; fewer than asked for, with a warning, where there are fewer groups."""
        asked = self.options.folds
        members = [
            Member(one.case.case, one.case.subject, one.content.lesion.ml, one.case.site)
            for one in kept
            if one.case.split == "train" and one.content and one.content.lesion
        ]
        by_site = asked.group_by == "site"
        if asked.fold_list:
            left_out = [name for one in exclusions for name in (one.case.case, one.case.subject)]
            splits = read_fold_list(
                asked.fold_list, members, missing=asked.missing_folds, left_out=left_out, aliases=self.aliases
            )
            leaks = [each for each in check_folds(splits, members, by_site=by_site) if each.code == "SITE_LEAKAGE"]
            if leaks:
                raise ConversionError(leaks)
            return splits, []
        groups = len(set(centre_groups(members).values())) if by_site else len({member.group for member in members})
        what = "centre" if by_site else "training subject"
        possible = min(asked.number, groups)
        if possible < 2:
            remedy = 'Train with fold "all".'
            problem = f"one {what} cannot be split into folds"
            return [], [Finding("NO_FOLDS", problem, remedy, severity="warning")]
        warnings = []
        if possible < asked.number:
            problem = f"{groups} {what}s make {possible} folds, not {asked.number}"
            remedy = f"Train folds 0 to {possible - 1} only: beyond, nnU-Net splits at random."
            warnings.append(Finding("FEWER_FOLDS", problem, remedy, severity="warning"))
        cut = centre_folds if by_site else grouped_folds
        return cut(members, possible, asked.seed), warnings

    def _facts(self, kept: Sequence[CheckedCase]) -> dict[str, str]:
        """The head of the quality-control page."""
        channels = list(kept[0].case.images)
        return {
            "Layout": self.layout.name,
            "Channels": ", ".join(channels),
            **({"Grid of the case": self.options.alignment.reference} if len(channels) > 1 else {}),
            "Checks": "headers and masks only (quick)" if self.options.checks.quick else "every file to its last byte",
        }

    def _texts(
        self,
        kept: Sequence[CheckedCase],
        exclusions: Sequence[Exclusion],
        warnings: Sequence[Finding],
        splits: Sequence[Split],
    ) -> dict[str, str]:
        """The files about the dataset, by name."""
        name = self.target.name
        alignment, checks, folds = self.options.alignment, self.options.checks, self.options.folds
        private = self.options.privacy.cleans
        options = {
            "dataset": name,
            "skip_bad": checks.skip_bad,
            "empty_masks": checks.empty_masks,
            **asdict(alignment),
            **({"masks": str(self.options.masks)} if self.options.masks.chosen else {}),
            "quick": checks.quick,
            "clean": private,
            "allow": sorted(set(checks.allow)),
            "folds": folds.number,
            "seed": folds.seed,
            "group_by": folds.group_by,
            "fold_list": folds.fold_list.name if folds.fold_list else "",
        }
        channels = list(kept[0].case.images)
        regions = list(self.options.masks.values_of_regions) or ["lesion"]
        n_training = sum(one.case.split == "train" for one in kept)
        dataset = report.dataset_json(name.partition("_")[2], self.layout.about, channels, regions, n_training)
        if self.link == "reference":
            dataset["dataset"] = report.referenced_files(kept, self.source.resolve())
        rows = [report.without_sources(one) if private else one.case for one in kept]
        texts = {
            "dataset.json": report.to_json(dataset),
            "cases.tsv": case_table.to_tsv(rows),
            "conversion_report.json": report.to_json(
                report.conversion_report(
                    layout=self.layout.name,
                    options=options,
                    checked=kept,
                    exclusions=exclusions,
                    warnings=warnings,
                    link=self.link,
                    private=private,
                )
            ),
        }
        if splits:
            texts["splits_final.json"] = report.to_json(splits)
        for one in kept:
            for transform in one.content.transforms if one.content else ():
                texts[f"transforms/{one.case.case}_{transform.moving}.tfm"] = transform.itk
        return texts


def run(jobs: Sequence[Job], *, dry_run: bool = False) -> list[Conversion]:
    """Make all datasets or none of them.

    Raises:
        ConversionError: naming all that is wrong with one. Nothing is left then, but what is finished where the system
            would write no more.
    """
    if dry_run:
        return _run(jobs, [None] * len(jobs))
    targets = [job.target for job in jobs]
    try:
        with (
            interrupts.last_words(lambda: _what_is_left(targets)),
            new_folders(targets, resume=True, check=refuse_taken) as stagings,
        ):
            result = _run(jobs, stagings)
            # Only now: what is written above may fill the disk, and the next run goes on from the records.
            for staging in stagings:
                shutil.rmtree(staging / records.FOLDER)
            return result
    except OSError as error:
        problem = f"cannot write {joined([str(target) for target in targets])}: {error.strerror or error}"
        remedy = "Check the folder's permissions and the free space."
        raise ConversionError([Finding("CANNOT_WRITE", problem, remedy)], _what_is_left(targets)) from None


def _what_is_left(targets: Sequence[Path]) -> str:
    """What a run that was stopped leaves, and what to do with it."""
    partial = [str(partial_folder(target)) for target in targets if os.path.isdir(partial_folder(target))]
    if partial:
        return f"What is finished is kept: the same command goes on from here; to give up, delete {joined(partial)}"
    complete = [str(target) for target in targets if os.path.isdir(target)]
    return f"{joined(complete)} had been completed." if complete else "Nothing was written."


def _run(jobs: Sequence[Job], stagings: Sequence[Path | None]) -> list[Conversion]:
    done = [job.process(staging) for job, staging in zip(jobs, stagings, strict=True)]
    return [job.finish(staging, own) for job, staging, own in zip(jobs, stagings, done, strict=True)]


def _complete(staging: Path, kept: Sequence[CheckedCase], texts: Mapping[str, str]) -> None:
    """Write the texts, and remove what an interrupted run left and does not belong to the dataset, but the records."""
    for name, text in texts.items():
        (staging / name).parent.mkdir(exist_ok=True)
        (staging / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    expected = {staging / destination for one in kept for _, destination in destinations(one)}
    expected |= {staging / name for name in texts}
    for path in staging.rglob("*"):
        if not path.is_dir() and path not in expected and path.parent.name != records.FOLDER:
            path.unlink()
    for folder in ("labelsTs", "transforms"):
        if (staging / folder).is_dir() and not any((staging / folder).iterdir()):
            (staging / folder).rmdir()


def _without_sources(warnings: Iterable[Finding], of_scan: Sequence[Finding]) -> list[Finding]:
    """What may be kept of warnings where names of source files must not be: they and their folders name people."""
    return [
        replace(each, problem=_NOT_KEPT, remedy="", files=())
        if each in of_scan and each.code not in ("METADATA_DROPPED", "NO_SECOND_DATASET")
        else replace(each, files=())
        for each in warnings
    ]


def _without_files(record: Record) -> Record:
    findings = tuple(replace(each, files=()) for each in record.checked.findings)
    return replace(record, checked=replace(record.checked, findings=findings))


def no_training_case(
    findings: Sequence[Finding], exclusions: Sequence[Exclusion], source: Path, left: Sequence[Case]
) -> ConversionError:
    """The error for cases of which none is for training; `left` are those that are for testing."""
    errors = [finding for finding in findings if finding.severity == "error"]
    if not errors:
        remedy = "A training case needs its images and a mask; look at what the scan says."
        why = [each for each in findings if each.code in ("UNLABELLED", "UNMATCHED_FILES", "NAME_NOT_BIDS")]
        problem = "; ".join([f"no training case is left of those under {source}", *(each.problem for each in why)])
        files = tuple(file for each in why for file in each.files)
        if with_mask := [case for case in left if case.masks]:
            problem += f"; {counted(len(with_mask), 'case')} with a mask are for testing by a folder's name or a table"
            files += tuple(("for testing", path) for case in with_mask for path in case.masks)
        remedy = " ".join([remedy, *(each.remedy for each in why)])
        errors = [Finding("NO_TRAINING_CASES", problem, remedy, files=files)]
        incomplete = [one for one in exclusions if one.code == "INCOMPLETE"]
        if incomplete:
            remedy = "Convert the images that all cases have (--channels T1w)."
            problem = (
                f"{len(incomplete)} cases lack an image, such as {incomplete[0].case.case}: {incomplete[0].reason}"
            )
            errors.append(Finding("INCOMPLETE", problem, remedy))
    return ConversionError(errors, "No training case is left. Nothing was written.")


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
    way_out = "" if any(not error.case for error in errors) else " (--skip-bad leaves them out)"
    summary = f"{bad} of {len(cases)} cases cannot be converted{way_out}. " if bad else ""
    return summary + "Nothing was written."


def _is_empty(checked: CheckedCase) -> bool:
    return checked.content is not None and checked.content.lesion is not None and not checked.content.lesion.voxels


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
