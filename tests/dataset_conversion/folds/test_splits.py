from __future__ import annotations

from collections import Counter
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_conversion.errors import ConversionError
from dataset_conversion.folds.splits import Member, Split, centre_folds, centre_groups, check_folds, grouped_folds


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


@settings(deadline=None)
@given(st.lists(st.integers(0, 500_000), min_size=5, max_size=60), st.integers(2, 5), st.integers(0, 1000))
def test_of_the_lesions_up_to_any_volume_no_fold_has_over_one_more_than_another(
    microlitres: list[int], n_folds: int, seed: int
) -> None:
    volume = {f"c{index:02d}": ul / 1000 for index, ul in enumerate(microlitres)}
    folds = grouped_folds([Member(case, case, ml) for case, ml in volume.items()], n_folds, seed)
    for limit in volume.values():
        counts = [sum(volume[case] <= limit for case in fold["val"]) for fold in folds]
        assert max(counts) - min(counts) <= 1


@st.composite
def centres(draw: st.DrawFn) -> list[Member]:
    """Centres of 1 to 12 cases; some subjects have a case in two of them."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=6, max_size=15))
    volume = st.floats(0, 500)
    members = [
        Member(f"R{site:02d}s{i:02d}", f"R{site:02d}s{i:02d}", draw(volume), f"R{site:02d}")
        for site, size in enumerate(sizes)
        for i in range(size)
    ]
    moved = draw(st.lists(st.tuples(st.sampled_from(members), st.integers(0, len(sizes) - 1)), max_size=3))
    return members + [
        Member(f"again{i}", member.group, draw(volume), f"R{site:02d}") for i, (member, site) in enumerate(moved)
    ]


def sides(split: Split, members: list[Member], of: str) -> tuple[set[str], set[str]]:
    value_of = {member.case: getattr(member, of) for member in members}
    return {value_of[case] for case in split["train"]}, {value_of[case] for case in split["val"]}


@settings(deadline=None)
@given(centres(), st.integers(2, 3), st.integers(0, 1000), st.randoms())
def test_neither_a_subject_nor_a_centre_is_on_both_sides_and_every_case_is_validated_once(
    members: list[Member], n_folds: int, seed: int, random
) -> None:
    folds = centre_folds(members, n_folds, seed)
    assert sorted(case for fold in folds for case in fold["val"]) == sorted(member.case for member in members)
    for fold in folds:
        assert len(fold["train"]) + len(fold["val"]) == len(members)
        for of in ("group", "site"):
            train, val = sides(fold, members, of)
            assert not train & val
    assert check_folds(folds, members, by_site=True) == []
    assert centre_folds(random.sample(members, len(members)), n_folds, seed) == folds


@settings(deadline=None)
@given(centres(), st.integers(2, 3))
def test_a_fold_of_several_centres_exceeds_another_by_its_smallest_centre_at_most(
    members: list[Member], n_folds: int
) -> None:
    group_of = centre_groups(members)
    size = Counter(group_of.values())
    folds = centre_folds(members, n_folds)
    smallest = min(len(fold["val"]) for fold in folds)
    for fold in folds:
        groups = {group_of[case] for case in fold["val"]}
        assert groups
        if len(groups) > 1:
            assert len(fold["val"]) - smallest <= min(size[group] for group in groups)


def test_the_unequal_centres_of_atlas_make_folds_of_nearly_equal_size() -> None:
    sizes = [111, 49, 45, 38, 37, 37, *[20] * 10, *[8] * 14, 2, 2, 2]
    members = [Member(f"{s}-{i}", f"{s}-{i}", 1.0, str(s)) for s, size in enumerate(sizes) for i in range(size)]
    counts = [len(fold["val"]) for fold in centre_folds(members)]
    assert max(counts) - min(counts) <= 8


def test_as_many_folds_as_centres_leave_one_centre_out_each() -> None:
    members = [Member(f"{site}{i}", f"{site}{i}", float(i), site) for site in "ABCDEFG" for i in range(ord(site) - 60)]
    left_out = [sides(fold, members, "site")[1] for fold in centre_folds(members, 7)]
    assert sorted(map(sorted, left_out)) == [[site] for site in "ABCDEFG"]


@settings(deadline=None)
@given(st.lists(st.integers(0, 500_000), min_size=4, max_size=30), st.integers(2, 4), st.integers(0, 1000))
def test_centres_of_one_size_are_dealt_out_by_volume(microlitres: list[int], n_folds: int, seed: int) -> None:
    volume = {f"c{index:02d}": ul / 1000 for index, ul in enumerate(microlitres)}
    folds = centre_folds([Member(case, case, ml, case) for case, ml in volume.items()], n_folds, seed)
    for limit in volume.values():
        counts = [sum(volume[case] <= limit for case in fold["val"]) for fold in folds]
        assert max(counts) - min(counts) <= 1


def test_of_equally_full_folds_the_one_that_needs_such_volumes_gets_a_centre() -> None:
    """The centre of 2 with large lesions goes to the fold that got the small ones, whatever the seed."""
    of_site = {"small": [0.1] * 3, "large": [100.0] * 3, "big": [100.0] * 2, "little": [0.1] * 2}
    members = [
        Member(f"{site}{i}", f"{site}{i}", ml, site) for site, mls in of_site.items() for i, ml in enumerate(mls)
    ]
    for seed in range(10):
        validated = [sorted(sides(fold, members, "site")[1]) for fold in centre_folds(members, 2, seed)]
        assert sorted(validated) == [["big", "small"], ["large", "little"]]


def test_the_seed_settles_ties_between_centres() -> None:
    members = [Member(f"c{i}", f"s{i}", 1.0, f"R{i}") for i in range(20)]
    assert centre_folds(members, 5, 1) == centre_folds(members, 5, 1)
    assert centre_folds(members, 5, 1) != centre_folds(members, 5, 2)


def test_cases_without_a_site_are_named() -> None:
    members = [Member("a", "a", 1.0, "R1"), Member("b", "b", 1.0), Member("c", "c", 1.0, "R2"), Member("d", "d", 1.0)]
    with pytest.raises(ConversionError) as error:
        centre_folds(members, 2)
    assert [(finding.code, finding.case) for finding in error.value.findings] == [("NO_SITE", "b"), ("NO_SITE", "d")]


def test_more_folds_than_groups_of_centres_are_refused() -> None:
    """Three centres, of which two share a subject."""
    members = [Member("a", "x", 1.0, "R1"), Member("b", "x", 1.0, "R2"), Member("c", "y", 1.0, "R3")]
    assert centre_groups(members) == {"a": "R1", "b": "R1", "c": "R3"}
    assert len(centre_folds(members, 2)) == 2
    with pytest.raises(ValueError, match="3 folds of 2 groups"):
        centre_folds(members, 3)


TWO_SESSIONS = [Member("p_1", "p", 1, "A"), Member("p_2", "p", 1, "A"), Member("q", "q", 1, "A"), Member("r", "r", 1)]


@pytest.mark.parametrize(
    ("validated", "expected"),
    [
        ([["p_1", "p_2"], ["q", "r"]], {}),
        ([["p_1"], ["p_2", "q", "r"]], {"LEAKAGE": 2}),
        ([["p_1", "p_2", "q"], ["q", "r"]], {"FOLD_REPEATED": 1}),
        ([["p_1", "p_2"], ["r"]], {"FOLD_MISSING": 1}),
        ([["p_1", "p_2"], ["q", "r", "stranger"]], {"FOLD_UNKNOWN": 2}),
        ([["p_1", "p_2", "q", "r"]], {"FOLD_EMPTY": 1}),
        ([], {"FOLD_EMPTY": 1, "FOLD_MISSING": 4}),
    ],
)
def test_what_is_wrong_with_folds_is_named(validated: list[list[str]], expected: dict[str, int]) -> None:
    everything = {case for fold in validated for case in fold}
    splits = [{"train": sorted(everything - set(fold)), "val": fold} for fold in validated]
    assert Counter(finding.code for finding in check_folds(splits, TWO_SESSIONS)) == expected


def test_a_case_on_both_sides_of_a_fold_is_leakage() -> None:
    splits = [{"train": ["q", "r"], "val": ["p_1", "p_2", "q"]}, {"train": ["p_1", "p_2"], "val": ["r"]}]
    assert [finding.code for finding in check_folds(splits, TWO_SESSIONS)] == ["LEAKAGE"]


def test_a_centre_on_both_sides_is_an_error_where_folds_are_cut_by_centre() -> None:
    splits = [{"train": ["q", "r"], "val": ["p_1", "p_2"]}, {"train": ["p_1", "p_2"], "val": ["q", "r"]}]
    assert check_folds(splits, TWO_SESSIONS) == []
    assert [finding.code for finding in check_folds(splits, TWO_SESSIONS, by_site=True)] == ["SITE_LEAKAGE"] * 2


def test_that_two_sites_are_not_known_does_not_make_them_one() -> None:
    splits = [{"train": ["a"], "val": ["b"]}, {"train": ["b"], "val": ["a"]}]
    assert check_folds(splits, [Member("a", "a", 1), Member("b", "b", 1)], by_site=True) == []
