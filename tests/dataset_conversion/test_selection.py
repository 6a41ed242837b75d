"""People and centres under several spellings."""

from __future__ import annotations

import unicodedata

import pytest

from dataset_conversion.layouts import Scan
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
