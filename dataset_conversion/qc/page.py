"""One self-contained HTML page about a converted dataset: findings, sites and folds, and a picture of every case.

Equal input gives equal text: there is no date and nothing about the machine in it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from dataset_conversion.qc import lesion_load
from dataset_conversion.qc.charts import colour_bar, volume_histogram
from dataset_conversion.qc.planes import ACROSS, PLANES
from dataset_conversion.tables.case_table import Split
from nnunet_transformers.common.page import data_uri, environment
from nnunet_transformers.common.problems import Finding

_NO_SITE = "site not stated"
_MAP_PIXELS = 240
_SPACINGS_SHOWN = 3
# Half of a character that is none, which is how Python keeps a byte of a file name that is not UTF-8, and control
# characters: neither may stand in an HTML file.
_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class QcCase:
    """What the page shows of one case.

    Attributes:
        fold: the fold that validates on it; None for a test case, or without folds.
        lesion_ml: None: no mask, or its voxels were not read.
        spacing: in mm.
        picture: the JPEG of `pictures.montage`.
        occupancy: of `lesion_load.occupancy`.
        grid: cases with equal text lie on the same voxel grid.
        notes: what was done to it: registered, resampled, rewritten.
    """

    case: str
    subject: str
    session: str = ""
    site: str = ""
    split: Split = "train"
    fold: int | None = None
    lesion_ml: float | None = None
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    picture: bytes | None = None
    occupancy: bytes | None = None
    grid: str = ""
    findings: tuple[Finding, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Group:
    """The findings of one code.

    Attributes:
        remedy: what all of them say, or nothing where they differ.
    """

    code: str
    severity: str
    remedy: str
    findings: Sequence[Finding]


@dataclass(frozen=True)
class _Row:
    """One line of the tables of sites and folds."""

    name: str
    cases: int
    subjects: int
    sites: int
    without_lesion: int
    volumes: str
    spacings: str


@dataclass(frozen=True)
class _LoadMap:
    """The lesion-load map as the template needs it.

    Attributes:
        panels: (plane, data URI, width, height) with the size in pixels of the page.
    """

    panels: Sequence[tuple[str, str, int, int]]
    bar: Markup
    highest: int
    masks: int
    grids: int


def qc_page(
    title: str,
    cases: Sequence[QcCase],
    *,
    findings: Sequence[Finding] = (),
    excluded: Sequence[tuple[str, str, str]] = (),
    facts: Mapping[str, str] | None = None,
) -> str:
    """The page as text that UTF-8 can hold.

    Without pictures or masks (as after reading headers only) it says so in their place. It needs no other file and
    no network; without JavaScript only the filter of the pictures is missing.

    Args:
        title: name of the dataset.
        cases: the converted cases, in any order; they are shown by site and name.
        findings: those that are not in the `findings` of a case, or all: equal ones are shown once.
        excluded: (case, code, reason) of what was left out.
        facts: name and value of what there is to know about the dataset: source, options, versions.
    """
    ordered = sorted(cases, key=lambda case: (not case.site, case.site, case.case))
    volumes = [case.lesion_ml for case in ordered if case.lesion_ml is not None]
    above_zero = [volume for volume in volumes if volume > 0]
    page = _template().render(
        title=title,
        facts=facts or {},
        counts=_counts(ordered, volumes, len(excluded)),
        groups=_groups([*findings, *(finding for case in ordered for finding in _named(case))]),
        excluded=sorted(excluded),
        anchors={case.case: f"case-{number}" for number, case in enumerate(ordered, 1)},
        histogram=volume_histogram(above_zero) if above_zero else None,
        n_volumes=len(volumes),
        n_empty=len(volumes) - len(above_zero),
        load_map=_load_map(ordered),
        site_rows=_rows(ordered, _site),
        fold_rows=_rows(sorted(ordered, key=_fold_order), _fold),
        has_folds=any(case.fold is not None for case in ordered),
        has_pictures=any(case.picture for case in ordered),
        sites=_grouped(ordered, _site),
    )
    return _NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", page)


@cache
def _template() -> jinja2.Template:
    own = environment(Path(__file__).parent)
    own.filters.update(ml=_ml, times=_times, words=_words, fold=_fold, jpeg=partial(data_uri, "image/jpeg"))
    return own.get_template("template.html.jinja")


def _site(case: QcCase) -> str:
    return case.site or _NO_SITE


def _fold(case: QcCase) -> str:
    if case.fold is not None:
        return f"fold {case.fold}"
    return "test" if case.split == "test" else "train, in no fold"


def _fold_order(case: QcCase) -> tuple[bool, int, str]:
    """Folds by number, then those in no fold, the test cases last."""
    return case.fold is None, case.fold or 0, "" if case.split == "train" else case.split


def _named(case: QcCase) -> list[Finding]:
    """Its findings, each with the case's name."""
    return [finding if finding.case else replace(finding, case=case.case) for finding in case.findings]


def _groups(findings: Iterable[Finding]) -> list[_Group]:
    """Errors first, then the most frequent code."""
    by_code: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in dict.fromkeys(findings):
        by_code[finding.severity, finding.code].append(finding)
    groups = []
    for (severity, code), same in sorted(by_code.items(), key=lambda item: (item[0][0], -len(item[1]), item[0][1])):
        remedies = {finding.remedy for finding in same}
        remedy = remedies.pop() if len(remedies) == 1 else ""
        groups.append(_Group(code, severity, remedy, sorted(same, key=lambda one: (one.case, one.problem))))
    return groups


def _counts(cases: Sequence[QcCase], volumes: Sequence[float], n_excluded: int) -> list[tuple[int, str]]:
    """(number, of what)."""
    parts = Counter(case.split for case in cases)
    subjects, sites = {case.subject for case in cases}, {case.site for case in cases if case.site}
    return [
        (len(cases), "case" if len(cases) == 1 else "cases"),
        (parts["train"], "for training"),
        (parts["test"], "for testing"),
        (len(subjects), "subject" if len(subjects) == 1 else "subjects"),
        (len(sites), "site" if len(sites) == 1 else "sites"),
        (len(volumes), "with a lesion volume"),
        (n_excluded, "left out"),
    ]


def _grouped(cases: Iterable[QcCase], name: Callable[[QcCase], str]) -> dict[str, list[QcCase]]:
    groups: dict[str, list[QcCase]] = defaultdict(list)
    for case in cases:
        groups[name(case)].append(case)
    return dict(groups)


def _rows(cases: Sequence[QcCase], name: Callable[[QcCase], str]) -> list[_Row]:
    rows = []
    for group, members in _grouped(cases, name).items():
        volumes = [case.lesion_ml for case in members if case.lesion_ml is not None]
        spacings = Counter(_times(case.spacing) for case in members if case.spacing)
        rows.append(
            _Row(
                name=group,
                cases=len(members),
                subjects=len({case.subject for case in members}),
                sites=len({case.site for case in members if case.site}),
                without_lesion=sum(volume == 0 for volume in volumes),
                volumes=_quartiles(volumes),
                spacings=_most_common(spacings),
            )
        )
    return rows


def _quartiles(volumes: Sequence[float]) -> str:
    """`4.3 (0.9 – 26)`: median and quartiles."""
    if not volumes:
        return "–"
    low, middle, high = np.percentile(volumes, (25, 50, 75))
    return f"{_ml(middle)} ({_ml(low)} – {_ml(high)})"


def _most_common(spacings: Counter[str]) -> str:
    ordered = sorted(spacings.items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) == 1:
        return ordered[0][0]
    shown = [f"{spacing} ({count})" for spacing, count in ordered[:_SPACINGS_SHOWN]]
    more = [f"{len(ordered) - _SPACINGS_SHOWN} others"] if len(ordered) > _SPACINGS_SHOWN else []
    return "; ".join(shown + more) or "–"


def _load_map(cases: Sequence[QcCase]) -> _LoadMap | None:
    """None where no case has a mask that was read, or none has a lesion."""
    masked = [case for case in cases if case.occupancy is not None]
    counts = lesion_load.load_map(case.occupancy for case in masked if case.occupancy is not None)
    highest = int(counts.max())
    if not highest:
        return None
    extents = np.median([np.multiply(case.shape, case.spacing) for case in masked], axis=0)
    panels = []
    for plane in PLANES:
        width, height = (
            max(1, round(_MAP_PIXELS * extents[axis] / extents.max())) for axis in range(3) if axis != ACROSS[plane]
        )
        png = lesion_load.map_png(lesion_load.projection(counts, plane), highest)
        panels.append((plane, data_uri("image/png", png), width, height))
    return _LoadMap(panels, colour_bar(highest), highest, len(masked), len({case.grid for case in masked}))


def _ml(volume: float) -> str:
    return f"{volume:.3g}" if volume < 1000 else f"{volume:.0f}"


def _times(sizes: Iterable[float]) -> str:
    return " × ".join(f"{size:.3g}" if size < 1000 else f"{size:.0f}" for size in sizes)


def _words(case: QcCase) -> str:
    """What the filter of the page searches."""
    codes = [finding.code for finding in case.findings]
    return " ".join([case.case, case.subject, _site(case), _fold(case), case.split, *codes]).lower()
