from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_conversion.qc.charts import volume_histogram
from dataset_conversion.qc.lesion_load import coarse, occupancy
from dataset_conversion.qc.page import QcCase, qc_page
from dataset_conversion.qc.pictures import montage
from nnunet_transformers.common.problems import Finding

SHAPE, SPACING = (20, 24, 20), (1.0, 1.0, 2.5)
VOID = {"meta", "img", "input"}


class Page(HTMLParser):
    """The elements of a page, which must be properly nested, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.words += " "
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.words += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(self.words.split())


def mask(size: int) -> np.ndarray:
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[4 : 4 + size, 5 : 5 + size, 6 : 6 + size] = 1
    return voxels


def qc_case(number: int = 1, **changes: object) -> QcCase:
    lesion = mask(1 + number % 8)
    image = np.random.default_rng(number).normal(size=SHAPE)
    case = QcCase(
        case=f"sub-{number:03d}_ses-1",
        subject=f"sub-{number:03d}",
        session="1",
        site=f"R{number % 3:03d}",
        fold=number % 5,
        lesion_ml=float(lesion.sum()) / 400,
        shape=SHAPE,
        spacing=SPACING,
        picture=montage({"T1w": image}, lesion, SPACING),
        occupancy=occupancy(coarse(lesion)),
        grid="20 × 24 × 20",
    )
    return replace(case, **changes)  # type: ignore[arg-type]


CASES = [qc_case(number) for number in range(12)]
WARNING = Finding("MASK_VALUE", "the mask has 255 where it should have 1", "It is written as 1.", severity="warning")


def read(cases: Sequence[QcCase], **more: object) -> Page:
    return Page(qc_page("Dataset201_ATLAS", cases, **more))  # type: ignore[arg-type]


def test_the_page_needs_nothing_outside_itself_and_its_links_arrive() -> None:
    page = read(
        [replace(CASES[0], findings=(WARNING,)), *CASES[1:]],
        findings=[Finding("DUPLICATE_VOXELS", "twice", files=((CASES[3].case, "a.nii.gz"),), severity="warning")],
    )
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    links = [attributes["href"] for attributes in page.of("a")]
    assert len(links) == 2
    for link in links:
        assert link is not None
        assert link.removeprefix("#") in identifiers
    sources = [str(attributes["src"]) for _, attributes in page.elements if "src" in attributes]
    assert len(sources) == len(CASES) + 3
    assert all(source.startswith("data:image/") for source in sources)
    assert not page.of("link")
    assert not re.search(r"url\(|@import|https?:", page.words + str(page.elements))


def test_whatever_hospitals_write_stays_text() -> None:
    bad = "\"><script>alert(1)</script>&amp;'{{ title }}"
    finding = Finding(bad, bad, bad, "", ((bad, bad),), "warning")
    case = qc_case(
        case=bad, subject=bad, session=bad, site=bad, findings=(finding,), metadata={bad: bad}, notes=(bad,), grid=bad
    )
    page = Page(qc_page(bad, [case], findings=[finding], excluded=[(bad, bad, bad)], facts={bad: bad}))
    assert len(page.of("script")) == 1
    assert page.words.count(bad) >= 15
    assert str(page.of("article")[0]["data-words"]).count(bad) >= 3


@settings(deadline=None, max_examples=30)
@given(st.text(st.characters(), max_size=20))
def test_any_name_can_be_written_as_utf_8(name: str) -> None:
    case = QcCase("case", "subject", site=name, metadata={"file": b"caf\xe9".decode("utf-8", "surrogateescape") + name})
    page = qc_page("title", [case], facts={name: name})
    assert page.encode("utf-8").decode("utf-8") == page
    assert "\0" not in page
    assert "caf\N{REPLACEMENT CHARACTER}" in page


def test_findings_come_first_errors_before_warnings_and_equal_ones_once() -> None:
    of_case = replace(WARNING, case=CASES[0].case)
    error = Finding("GRID_MISMATCH", "7.0 mm apart", "Export it again.", CASES[5].case)
    cases = [replace(CASES[0], findings=(WARNING,)), *CASES[1:5], replace(CASES[5], findings=(error,))]
    text = read(cases, findings=[of_case, replace(WARNING, case=CASES[1].case)]).text
    order = [
        "Error, allowed: GRID_MISMATCH (1)",
        "Export it again.",
        f"{CASES[5].case}: 7.0 mm apart",
        "Warning: MASK_VALUE (2)",
        "It is written as 1.",
        f"{CASES[0].case}: the mask has 255",
        f"{CASES[1].case}: the mask has 255",
        "Left out",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert text.count("It is written as 1.") == 1


def test_remedies_that_differ_stand_with_their_findings() -> None:
    findings = [replace(WARNING, case=f"case {number}", remedy=f"Remedy {number}.") for number in range(3)]
    text = read(CASES, findings=findings).text
    for number in range(3):
        assert f"case {number}: {WARNING.problem} Remedy {number}." in text


def test_what_was_left_out_is_listed_with_its_reason() -> None:
    text = read(CASES, excluded=[("sub-b", "NO_FLAIR", "no FLAIR"), ("sub-a", "EMPTY_MASK", "no lesion")]).text
    assert "sub-a no lesion EMPTY_MASK sub-b no FLAIR NO_FLAIR" in text
    assert "2 left out" in text


def test_sites_and_folds_are_counted_with_median_and_quartiles() -> None:
    volumes = {"A": [1.0, 2.0, 3.0, 4.0, 5.0], "": [1234.5]}
    cases = [
        QcCase(
            f"{site}{number}", f"{site}{number // 2}", site=site, fold=1 - number % 2, lesion_ml=volume, spacing=SPACING
        )
        for site, all_volumes in volumes.items()
        for number, volume in enumerate(all_volumes)
    ]
    test_case = QcCase("t", "t", split="test", site="B", lesion_ml=0.0, spacing=(0.75, 0.75, 3))
    text = read([*cases, test_case]).text
    assert "A 5 3 3 (2 – 4) 0 1 × 1 × 2.5" in text
    assert "B 1 1 0 (0 – 0) 1 0.75 × 0.75 × 3" in text
    assert "site not stated 1 1 1234 (1234 – 1234) 0" in text
    assert text.index("fold 0 2 2 1") < text.index("fold 1 4 4 1") < text.index("test 1 1 1")


@pytest.mark.parametrize(
    ("grids", "sentence"),
    [
        (["template", "template"], "All of them lie on one voxel grid"),
        (["a", "b"], "They lie on 2 different voxel grids"),
    ],
)
def test_the_map_says_whether_a_point_is_the_same_place_in_every_case(grids: list[str], sentence: str) -> None:
    text = read([replace(CASES[number], grid=grid) for number, grid in enumerate(grids)]).text
    assert sentence in text
    assert "of 2 with a mask" in text


def test_without_pictures_and_masks_the_page_says_so() -> None:
    page = read([QcCase("sub-1", "sub-1", shape=SHAPE, spacing=SPACING), QcCase("sub-2", "sub-2")])
    assert not page.of("img")
    for sentence in ("No lesion volume is known", "No map:", "There are no pictures", "lesion volume not known"):
        assert sentence in page.text
    assert [attributes["id"] for attributes in page.of("article")] == ["case-1", "case-2"]


def test_empty_masks_are_counted_and_not_drawn() -> None:
    empty = qc_case(lesion_ml=0.0, occupancy=occupancy(coarse(np.zeros(SHAPE, np.uint8))))
    assert "Not drawn: 1 of 4 masks is empty." in read([empty, *CASES[2:5]]).text
    only_empty = read([empty]).text
    assert "All masks are empty (1)." in only_empty
    assert "No map:" in only_empty


@pytest.mark.parametrize(("cases", "count"), [([], "0 cases · 0 for training"), (CASES[:1], "1 case · 1 for training")])
def test_few_cases_make_a_page_too(cases: list[QcCase], count: str) -> None:
    assert count in read(cases).text


@settings(deadline=None, max_examples=10)
@given(st.permutations(CASES), st.permutations([replace(WARNING, case=case.case) for case in CASES[:4]]))
def test_equal_content_in_another_order_gives_the_same_page(cases: list[QcCase], findings: list[Finding]) -> None:
    expected = qc_page("d", CASES, findings=[replace(WARNING, case=case.case) for case in CASES[:4]])
    assert qc_page("d", cases, findings=findings) == expected


@given(st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=60))
def test_the_histogram_counts_every_volume_once_in_its_bar(volumes: list[float]) -> None:
    svg = str(volume_histogram(volumes))
    bars = [(float(low), float(high), int(n)) for low, high, n in re.findall(r">([^<>]+) to (\S+) ml: (\d+)<", svg)]
    assert sum(n for _, _, n in bars) == len(volumes)
    for low, high, n in bars:  # the bounds are printed with three digits
        assert sum(low * 0.99 <= volume <= high * 1.01 for volume in volumes) >= n
        assert high / low == pytest.approx(10**0.25, rel=0.02)
    drawn = [(float(x), float(height)) for x, height in re.findall(r'<rect x="(\S+)" .*?height="(\S+)"', svg)]
    assert all(40 <= x <= 680 for x, _ in drawn)
    tallest = max(height for _, height in drawn)
    assert tallest > 100
    for (_, _, n), (_, height) in zip(bars, drawn, strict=True):
        assert height == pytest.approx(tallest * n / max(n for _, _, n in bars), abs=0.1)
