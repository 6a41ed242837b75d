from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_conversion.errors import ConversionError
from dataset_conversion.overlap import Overlap, overlap_findings, overlaps, resolve
from dataset_conversion.tables.case_table import Case


def case(subject: str, session: str = "1", split: str = "train", **metadata: str) -> Case:
    return Case(f"{subject}_ses-{session}", subject, split=split, session=session, metadata=metadata)  # type: ignore[arg-type]


def subjects(found: list[Overlap]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    return [one.subjects for one in found]


R20 = [case("sub-r001s001"), case("sub-r001s002"), case("sub-r003s001", split="test")]


def test_releases_that_share_subjects_overlap_in_them() -> None:
    r21 = [case("sub-r001s002"), case("sub-r001s002", "2"), case("sub-r099s001")]
    [one] = overlaps(R20, r21)
    assert one.subjects == (("sub-r001s002",), ("sub-r001s002",))
    assert [len(one.first), len(one.second)] == [1, 2]
    assert not one.leaks


def test_datasets_without_a_common_person_do_not_overlap() -> None:
    assert overlaps(R20, [case("sub-r001s003", indi_subject_id="n/a"), case("sub-0")]) == []
    assert overlaps([case("sub-a", indi_subject_id="")], [case("sub-b", indi_subject_id="")]) == []


@pytest.mark.parametrize(
    "column", ["indi_subject_id", "INDI Subject ID", "atlas_1_2_subject_id", "ATLAS 1.2 Subject ID"]
)
@pytest.mark.parametrize("value", ["031768", "31768", "31768.0", "sub-031768", " 031768 ", "031768_t01"])
def test_the_sheet_of_a_release_names_subjects_of_an_earlier_one(column: str, value: str) -> None:
    new = [case("sub-r001s001", **{column: value}), case("sub-r001s002", **{column: ""})]
    old = [case("sub-031768", "t01"), case("sub-031769", "t01")]
    assert subjects(overlaps(new, old)) == [(("sub-r001s001",), ("sub-031768",))]
    assert subjects(overlaps(old, new)) == [(("sub-031768",), ("sub-r001s001",))]


def test_the_reason_says_what_is_equal() -> None:
    [one] = overlaps([case("sub-r001s001", indi_subject_id="31768")], [case("sub-031768")])
    assert one.reasons == ("indi_subject_id 31768 of sub-r001s001 = subject sub-031768",)


def test_two_releases_that_name_the_same_earlier_subject_overlap() -> None:
    found = overlaps([case("sub-a", indi_subject_id="31768")], [case("sub-b", indi_subject_id="031768")])
    assert subjects(found) == [(("sub-a",), ("sub-b",))]


def test_icpsr_names_are_compared_without_their_time_point() -> None:
    new = [case("sub-r005s001", atlas_1_2_subject_id="c0003s0002t01")]
    assert subjects(overlaps(new, [case("sub-c0003s0002", "t02")])) == [(("sub-r005s001",), ("sub-c0003s0002",))]


def test_equal_voxels_are_the_same_person() -> None:
    found = overlaps(
        R20, [case("sub-x"), case("sub-y")], {"sub-r001s001_ses-1": ["d1", "d2"]}, {"sub-y_ses-1": ["d3", "d2"]}
    )
    assert subjects(found) == [(("sub-r001s001",), ("sub-y",))]
    assert found[0].reasons == ("voxels of sub-r001s001_ses-1 = voxels of sub-y_ses-1",)


def test_a_person_under_several_names_is_one_overlap() -> None:
    """sub-a is sub-x by name, and sub-x is sub-b by voxels."""
    first, second = [case("sub-a"), case("sub-b"), case("sub-c")], [case("sub-x", indi_subject_id="a")]
    found = overlaps(first, second, {"sub-b_ses-1": ["d"]}, {"sub-x_ses-1": ["d"]})
    assert subjects(found) == [(("sub-a", "sub-b"), ("sub-x",))]
    assert len(found[0].reasons) == 2
    assert set(resolve(first, second, found, "group").groups.values()) == {"sub-a", "sub-c"}


def test_an_overlap_is_an_error_until_a_policy_is_chosen() -> None:
    found = overlaps(R20, [case("sub-r001s001")])
    [finding] = overlap_findings(found)
    assert finding.code == "OVERLAP"
    assert "--overlap first" in finding.remedy
    assert "--overlap group" in finding.remedy
    assert overlap_findings(found, "first") == overlap_findings(found, "group") == []


def test_a_person_trained_on_in_one_and_tested_in_the_other_is_leakage_that_groups_do_not_solve() -> None:
    r21 = [case("sub-r003s001")]
    found = overlaps(R20, r21)
    for policy in (None, "group"):
        [finding] = overlap_findings(found, policy)  # type: ignore[arg-type]
        assert finding.code == "LEAKAGE"
    with pytest.raises(ConversionError, match="LEAKAGE"):
        resolve(R20, r21, found, "group")
    assert resolve(R20, r21, found, "first").cases == tuple(R20)


def test_first_keeps_the_cases_of_the_first_dataset_and_says_why_the_others_go() -> None:
    second = [case("sub-r001s002"), case("sub-r001s002", "2"), case("sub-new")]
    merged = resolve(R20, second, overlaps(R20, second), "first")
    assert merged.cases == (*R20, second[2])
    assert [one for one, _ in merged.exclusions] == second[:2]
    assert "sub-r001s002 of the first dataset" in merged.exclusions[0][1]
    assert merged.groups == {one.case: one.subject for one in merged.cases}


def test_group_keeps_all_cases_as_one_subject() -> None:
    new, old = [case("sub-r001s001", indi_subject_id="31768")], [case("sub-031768", "t01"), case("sub-031768", "t02")]
    merged = resolve(new, old, overlaps(new, old), "group")
    assert merged.cases == (*new, *old)
    assert merged.exclusions == ()
    assert set(merged.groups) == {one.case for one in merged.cases}
    assert set(merged.groups.values()) == {"sub-r001s001"}


def test_a_name_that_both_have_is_changed_in_the_second() -> None:
    second = [case("SUB-R001S001"), Case("sub-r001s001_ses-1_2", "sub-else")]
    merged = resolve(R20, second, overlaps(R20, second), "group")
    assert [one.case for one in merged.cases[3:]] == ["SUB-R001S001_ses-1_3", "sub-r001s001_ses-1_2"]
    assert merged.groups["SUB-R001S001_ses-1_3"] == "sub-r001s001"


def test_another_policy_is_refused() -> None:
    with pytest.raises(ConversionError, match="BAD_OPTION"):
        resolve([], [], [], "second")  # type: ignore[arg-type]


people = st.lists(
    st.builds(
        case,
        st.sampled_from([f"sub-{number}" for number in range(8)]),
        st.sampled_from("12"),
        indi_subject_id=st.sampled_from(["", "n/a", *"01234567"]),
    ),
    max_size=8,
    unique_by=lambda one: one.case,
)


@given(people, people)
def test_after_merging_no_person_is_in_two_groups_and_no_name_is_there_twice(a: list[Case], b: list[Case]) -> None:
    found = overlaps(a, b)
    kept = resolve(a, b, found, "first")
    grouped = resolve(a, b, found, "group")
    for one in found:
        assert one.first
        assert one.second
    for merged in (kept, grouped):
        names = [one.case for one in merged.cases]
        assert len(set(names)) == len(names)
        assert set(merged.groups) == set(names)
    assert len(kept.cases) + len(kept.exclusions) == len(grouped.cases) == len(a) + len(b)
    assert overlaps(a, kept.cases[len(a) :]) == []
    group_of: dict[str, set[str]] = {}
    for one in grouped.cases:
        group_of.setdefault(one.subject, set()).add(grouped.groups[one.case])
    assert all(len(groups) == 1 for groups in group_of.values())
