"""People and centres under several spellings, and cases without a chosen channel."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from dataset_conversion.layouts import Scan, bids
from dataset_conversion.selection import select
from dataset_conversion.tables.case_table import Case


def case(subject: str, session: str, site: str = "") -> Case:
    return Case(f"{subject}_ses-{session}", subject, "train", {"T1w": "a.nii"}, ("m.nii",), session, site)


@pytest.mark.parametrize(
    ("one", "other"),
    [("P1", "p1"), ("sub-P1", "P1"), ("sub-A1", "sub-a1"), *[("é1", unicodedata.normalize("NFD", "É1"))]],
)
def test_one_person_under_two_spellings_is_an_error(one: str, other: str) -> None:
    found = select(Scan((case(one, "1"), case(one, "2"), case(other, "3"), case("P2", "1")), ()), (), ())
    (finding,) = found.findings
    assert (finding.code, finding.case, finding.severity) == ("CASE_NAME", f"{other}_ses-3", "error")
    assert f"{one} and {other}" in finding.problem


def test_sessions_of_one_spelling_are_no_finding() -> None:
    assert not select(Scan((case("sub-P1", "1"), case("sub-P1", "2"), case("sub-P12", "1")), ()), (), ()).findings


def test_a_centre_has_the_spelling_that_most_cases_give_it() -> None:
    sites = ["R001", "r001", "R001", "Orléans", unicodedata.normalize("NFD", "orléans"), "Orléans", "", "B", "b"]
    cases = tuple(case(f"P{number}", "1", site) for number, site in enumerate(sites))
    found = select(Scan(cases, ()), (), ())
    assert [one.site for one in found.cases] == [*["R001"] * 3, *["Orléans"] * 3, "", "B", "B"]
    assert select(Scan(cases[::-1], ()), (), ()).cases == found.cases[::-1]


def test_a_session_without_the_channel_is_incomplete_however_many_runs_of_something_else_it_has(tmp_path: Path) -> None:
    def touch(session: str, *names: str) -> None:
        for name in names:
            path = tmp_path / f"sub-1/ses-{session}/sub-1_ses-{session}_{name}.nii"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    touch("1", "T1w", "label-lesion_mask")
    touch("2", "run-1_dwi")
    touch("3", "run-1_dwi", "run-2_dwi")
    touch("4", "run-1_dwi", "run-2_dwi", "label-lesion_mask")
    selection = select(bids.find(tmp_path), ["T1w"], [])
    assert [case.case for case in selection.cases] == ["sub-1_ses-1"]
    assert not [finding for finding in selection.findings if finding.severity == "error"]
    left_out = [(one.case.case, one.code, one.reason) for one in selection.exclusions]
    assert left_out == [(f"sub-1_ses-{session}", "INCOMPLETE", "no T1w") for session in "234"]
    assert not selection.incomplete


def test_two_images_of_a_chosen_channel_stay_an_error(tmp_path: Path) -> None:
    for name in ("run-1_T1w", "run-2_T1w", "FLAIR", "seg"):
        (tmp_path / f"sub-1_{name}.nii").touch()
    selection = select(bids.find(tmp_path), ["T1w"], [])
    assert [finding.code for finding in selection.findings] == ["AMBIGUOUS_IMAGE"]
