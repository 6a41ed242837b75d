"""Score many cases: files in, the table of scores out, several cases at a time."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from nnunet_transformers import __version__
from nnunet_transformers.common.files import write_whole
from nnunet_transformers.common.problems import writing_to
from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.metrics.case import metrics_of
from nnunet_transformers.comparison.metrics.definitions import METRICS
from nnunet_transformers.comparison.metrics.labels import ONE_LABEL, Labels
from nnunet_transformers.comparison.metrics.lesions_table import LESION_COLUMNS, write_lesions
from nnunet_transformers.comparison.metrics.mask_pair import MaskPair
from nnunet_transformers.comparison.metrics.masks import UnusableMasksError, ignored_voxels, read_masks
from nnunet_transformers.comparison.metrics.probabilities import read_probability
from nnunet_transformers.comparison.metrics.scores_table import COLUMNS, write_scores

_SHOWN_PROBLEMS = 5

Values = dict[str, float]
Lesions = list[tuple[float, bool]]
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Pair:
    """A prediction and its reference.

    Attributes:
        model: what it is called in the report.
        set: "cross-validation" or the name of a test set.
        fold: the fold whose validation it is from; None on test sets.
        site: "" if unknown.
        reference, prediction: segmentations.
        probabilities: files of nnU-Net's whose mean is the prediction's probability; empty where it is not known.
    """

    model: str
    set: str
    fold: int | None
    case: str
    subject: str
    site: str
    reference: Path
    prediction: Path
    probabilities: tuple[Path, ...] = ()

    @property
    def key(self) -> Key:
        """What a model, a set and a case have once."""
        return self.model, self.set, self.case


@dataclass(frozen=True)
class Measured:
    """A case that was scored.

    Attributes:
        values: of each metric.
        lesions: of the reference: volume in ml, and whether it was found, see `MaskPair.lesions_ml`.
    """

    values: Values
    lesions: Lesions


def evaluate(pairs: Sequence[Pair], jobs: int = 1, *, labels: Labels = ONE_LABEL) -> pd.DataFrame:
    """Compute every metric of every case.

    Args:
        jobs: processes; with more than one, a script needs `if __name__ == "__main__"`.
        labels: of the dataset, see `labels.read_labels`.

    Returns:
        The columns of `scores_table.COLUMNS`; cases in the order of `pairs`, metrics in that of `METRICS`, without
        those that need probabilities where there are none.

    Raises:
        ComparisonError: cases cannot be compared, see `masks.read_masks`; or a model has a case twice in a set.
    """
    _refuse_case_twice(pairs)
    measured = dict(_measured(pairs, jobs, labels, "Nothing was written."))
    return _table(pairs, measured)


def update(
    table: Path,
    pairs: Sequence[Pair],
    jobs: int = 1,
    *,
    labels: Labels = ONE_LABEL,
    on_unusable: Callable[[Pair, UnusableMasksError], None] | None = None,
) -> pd.DataFrame:
    """Bring a table of scores up to date: like `evaluate`, but only what is new or changed is computed.

    Each case is noted in TABLE.cases.jsonl as soon as it is scored, with size and time of its files. After an
    interruption the next call goes on from there. The table itself is written when it is complete, and that of the
    lesions beside it, see `lesions_table`.

    Args:
        table: the CSV, see `scores_table.write_scores`. It holds the given pairs afterwards and no others.
        on_unusable: called for each case that cannot be scored, which the table then lacks; default: an error once all
            others are scored.

    Raises:
        ComparisonError: as in `evaluate`, or the table cannot be written. It is then as it was before.
    """
    _refuse_case_twice(pairs)
    notes = _Notes(Path(table).with_suffix(".cases.jsonl"), labels)
    stamps = {pair.key: _stamp(pair) for pair in pairs}
    known = {pair.key: found for pair in pairs if (found := notes.find(pair.key, stamps[pair.key])) is not None}
    new = [pair for pair in pairs if pair.key not in known]
    kept = f"The other cases are scored and noted in {notes.path}; the table was not changed: {table}"
    for key, measured in _measured(new, jobs, labels, kept, on_unusable):
        notes.add(key, stamps[key], measured)
        known[key] = measured
    scored = [pair for pair in pairs if pair.key in known]
    scores = _table(scored, known)
    with writing_to(table):
        write_scores(scores, table)
        write_lesions(_lesions(scored, known), Path(table))
    return scores


class _Notes:
    """Scored cases, one JSON object per line; the last one of a case counts, a line that was cut off does not."""

    def __init__(self, path: Path, labels: Labels) -> None:
        self.path = path
        how = repr((__version__, "with lesions", list(METRICS.values()), labels))
        self._how = hashlib.sha256(how.encode()).hexdigest()[:16]
        self._noted: dict[Key, tuple[list[int], Measured]] = {}
        with writing_to(path):  # before anything is scored
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            lines = path.read_text(encoding="utf-8").splitlines()
        for line in lines:
            with suppress(ValueError):
                note = json.loads(line)
                if note["how"] == self._how:
                    lesions = [(ml, found) for ml, found in note["lesions"]]
                    self._noted[tuple(note["case"])] = (note["files"], Measured(note["values"], lesions))
        if len(self._noted) < len(lines):
            self._write_anew()

    def find(self, key: Key, stamp: list[int]) -> Measured | None:
        """A case whose files are still those it was scored from."""
        noted_stamp, measured = self._noted.get(key, ([], None))
        return measured if stamp and stamp == noted_stamp else None

    def add(self, key: Key, stamp: list[int], measured: Measured) -> None:
        with writing_to(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(self._line(key, stamp, measured))

    def _line(self, key: Key, stamp: list[int], measured: Measured) -> str:
        return json.dumps({"case": key, "how": self._how, "files": stamp, **asdict(measured)}) + "\n"

    def _write_anew(self) -> None:
        with writing_to(self.path):
            write_whole(self.path, "".join(self._line(key, *noted) for key, noted in self._noted.items()))


def _stamp(pair: Pair) -> list[int]:
    """Size and time of change of all files; empty if one is missing."""
    try:
        stats = [path.stat() for path in (pair.reference, pair.prediction, *pair.probabilities)]
    except OSError:
        return []
    return [number for stat in stats for number in (stat.st_size, stat.st_mtime_ns)]


def _measured(
    pairs: Sequence[Pair],
    jobs: int,
    labels: Labels,
    kept: str,
    on_unusable: Callable[[Pair, UnusableMasksError], None] | None = None,
) -> Iterator[tuple[Key, Measured]]:
    """Each pair as it is scored, and then an error if there was a problem; `kept` is the end of its text."""
    problems: list[UnusableMasksError] = []
    outcomes = _outcomes(pairs, jobs, labels)
    try:
        for pair, outcome in tqdm(outcomes, "metrics", len(pairs), unit="case", file=sys.stderr, disable=None):
            if isinstance(outcome, UnusableMasksError):
                if on_unusable:
                    on_unusable(pair, outcome)
                else:
                    problems.append(outcome)
            else:
                yield pair.key, outcome
    except BrokenProcessPool as error:
        raise ComparisonError(
            "a process that computed metrics was ended by the system, probably for lack of memory",
            f"Use fewer jobs than {jobs}. {kept}",
            "OUT_OF_MEMORY",
        ) from error
    if problems:
        raise _error(problems, len(pairs), kept)


def _outcomes(pairs: Sequence[Pair], jobs: int, labels: Labels) -> Iterator[tuple[Pair, Measured | UnusableMasksError]]:
    measure = partial(_measure, labels=labels)
    pairs = sorted(pairs, key=lambda pair: pair.reference)  # one that several models share is read once in a row
    if min(jobs, len(pairs)) <= 1:
        yield from ((pair, measure(pair)) for pair in pairs)
        return
    executor = ProcessPoolExecutor(
        min(jobs, len(pairs)), mp_context=multiprocessing.get_context("spawn"), initializer=_follow_parent
    )
    try:
        futures = {executor.submit(measure, pair): pair for pair in pairs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        executor.shutdown(cancel_futures=True)


def _measure(pair: Pair, labels: Labels) -> Measured | UnusableMasksError:
    try:
        reference, prediction, spacing = read_masks(pair.reference, pair.prediction, labels)
        probability = _probability(pair, labels, reference.shape)
    except UnusableMasksError as error:
        return error
    masks = MaskPair(reference, prediction, spacing, probability)
    values = metrics_of(masks)
    return Measured({name: float(values[name]) for name in ("reference_ml", *METRICS)}, masks.lesions_ml)


def _probability(pair: Pair, labels: Labels, shape: tuple[int, ...]) -> np.ndarray | None:
    """The probability of a lesion, not a number where the reference says to ignore a voxel."""
    if not pair.probabilities or not labels.channels:
        return None
    probability = np.mean([read_probability(path, labels, shape) for path in pair.probabilities], axis=0)
    ignored = ignored_voxels(pair.reference, labels)
    return probability if ignored is None else np.where(ignored, np.float32("nan"), probability)


def _follow_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and end when the parent does, even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _error(problems: Sequence[UnusableMasksError], n_cases: int, kept: str) -> ComparisonError:
    first = problems[0]
    text = first.problem
    if len(problems) > 1:
        told = list(dict.fromkeys(problem.problem for problem in problems))  # models share references
        shown = [f"- {problem}" for problem in told[:_SHOWN_PROBLEMS]]
        more = [f"- and {len(told) - _SHOWN_PROBLEMS} more"] if len(told) > _SHOWN_PROBLEMS else []
        text = "\n".join([f"{len(problems)} of {n_cases} cases cannot be scored:", *shown, *more])
    remedies = dict.fromkeys(problem.remedy for problem in problems[:_SHOWN_PROBLEMS])
    return ComparisonError(text, f"{' '.join(remedies)} {kept}", first.code)


def _refuse_case_twice(pairs: Sequence[Pair]) -> None:
    seen: dict[Key, Pair] = {}
    for pair in pairs:
        other = seen.setdefault(pair.key, pair)
        if other is not pair:
            raise ComparisonError(
                f"{pair.model} has {pair.case} twice in {pair.set}:\n  {other.prediction}\n  {pair.prediction}",
                "Each case is scored once: leave one of them out. Nothing was written.",
                "CASE_TWICE",
            )


def _table(pairs: Sequence[Pair], measured: dict[Key, Measured]) -> pd.DataFrame:
    values = {key: each.values for key, each in measured.items()}
    shown = [
        name
        for name, metric in METRICS.items()
        if not metric.needs_probability or any(not math.isnan(values[pair.key][name]) for pair in pairs)
    ]
    rows = [
        (p.model, p.set, p.fold, p.case, p.subject, p.site, values[p.key]["reference_ml"], name, values[p.key][name])
        for p in pairs
        for name in shown
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _lesions(pairs: Sequence[Pair], measured: dict[Key, Measured]) -> pd.DataFrame:
    rows = [
        (p.model, p.set, p.case, p.subject, p.site, ml, found) for p in pairs for ml, found in measured[p.key].lesions
    ]
    return pd.DataFrame(rows, columns=list(LESION_COLUMNS)).astype(LESION_COLUMNS)
