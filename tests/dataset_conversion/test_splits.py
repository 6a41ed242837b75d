from __future__ import annotations

from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_conversion.splits import Member, grouped_folds


@st.composite
def memberships(draw: st.DrawFn) -> tuple[list[Member], int]:
    """1 to 3 sessions for each of at least as many subjects as folds."""
    n_folds = draw(st.integers(2, 7))
    sessions = draw(st.lists(st.integers(1, 3), min_size=n_folds, max_size=40))
    volume = st.floats(0, 500)
    members = [
        Member(f"sub-{subject:02d}_ses-{session}", f"sub-{subject:02d}", draw(volume))
        for subject, count in enumerate(sessions)
        for session in range(count)
    ]
    return members, n_folds


@settings(deadline=None)
@given(memberships(), st.integers(0, 2**32))
def test_every_case_is_validated_once_and_no_subject_is_on_both_sides(
    drawn: tuple[list[Member], int], seed: int
) -> None:
    members, n_folds = drawn
    folds = grouped_folds(members, n_folds, seed)
    group_of = {member.case: member.group for member in members}
    assert len(folds) == n_folds
    assert sorted(case for fold in folds for case in fold["val"]) == sorted(group_of)
    for fold in folds:
        assert sorted(fold["train"] + fold["val"]) == sorted(group_of)
        assert not {group_of[case] for case in fold["train"]} & {group_of[case] for case in fold["val"]}


@settings(deadline=None)
@given(memberships())
def test_folds_differ_by_at_most_one_subject_and_are_never_empty(drawn: tuple[list[Member], int]) -> None:
    members, n_folds = drawn
    group_of = {member.case: member.group for member in members}
    counts = [len({group_of[case] for case in fold["val"]}) for fold in grouped_folds(members, n_folds)]
    assert max(counts) - min(counts) <= 1
    assert min(counts) >= 1


@settings(deadline=None)
@given(memberships(), st.randoms())
def test_the_order_of_the_cases_does_not_matter(drawn: tuple[list[Member], int], random) -> None:
    members, n_folds = drawn
    mixed = random.sample(members, len(members))
    assert grouped_folds(mixed, n_folds) == grouped_folds(members, n_folds)


def test_lesion_volumes_are_spread_evenly() -> None:
    members = [Member(f"c{index}", f"s{index}", 0.01 * 1.1**index) for index in range(100)]
    volume_rank = {member.case: index for index, member in enumerate(members)}
    for seed in range(20):
        for fold in grouped_folds(members, 5, seed):
            # A fold takes one of each five neighbours, so its mean rank is within 2 of the overall 49.5.
            assert abs(fmean(volume_rank[case] for case in fold["val"]) - 49.5) <= 2


def test_the_seed_and_nothing_else_changes_the_folds() -> None:
    members = [Member(f"c{index}", f"s{index}", float(index)) for index in range(23)]
    assert grouped_folds(members, 5, 1) == grouped_folds(members, 5, 1)
    assert grouped_folds(members, 5, 1) != grouped_folds(members, 5, 2)


@pytest.mark.parametrize(("subjects", "n_folds"), [(4, 5), (3, 1), (0, 2)])
def test_folds_that_cannot_be_are_refused(subjects: int, n_folds: int) -> None:
    with pytest.raises(ValueError, match="folds"):
        grouped_folds([Member(f"c{i}", f"s{i}", 1.0) for i in range(subjects)], n_folds)
