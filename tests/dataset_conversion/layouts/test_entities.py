from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_conversion.layouts.entities import parse

VALUES = st.text(string.ascii_letters + string.digits + "+", min_size=1, max_size=8)
KEYS = st.text(string.ascii_lowercase, min_size=1, max_size=6)
WORDS = st.text(string.ascii_letters + string.digits, min_size=1, max_size=8)


@given(st.dictionaries(KEYS, VALUES, min_size=1), WORDS, st.sampled_from([".nii", ".nii.gz", ".json", ""]))
def test_what_a_name_is_made_of_is_what_is_read_from_it(entities: dict[str, str], suffix: str, extension: str) -> None:
    name = parse("_".join([*(f"{key}-{value}" for key, value in entities.items()), suffix]) + extension)
    assert name is not None
    assert (name.entities, name.suffix, name.extension, name.words) == (entities, suffix, extension, ())


@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_any_text_is_read_or_refused_and_never_fails(text: str) -> None:
    name = parse(text)
    if name is not None:
        parts = text.partition(".")[0].split("_")
        assert len(name.entities) + len(name.words) + bool(name.suffix) == len(parts) >= 2
        assert all(key == key.lower() and value in text for key, value in name.entities.items())


@given(st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=3), WORDS)
def test_the_case_of_keys_does_not_matter_and_that_of_values_is_kept(pairs: list[tuple[str, str]], suffix: str) -> None:
    lower = parse("_".join([*(f"{key}-{value}" for key, value in pairs), suffix]))
    assert parse("_".join([*(f"{key.upper()}-{value}" for key, value in pairs), suffix])) == lower
    repeated = len({key for key, _ in pairs}) < len(pairs)
    assert (lower is None) is repeated


def test_entities_suffix_and_extension_of_a_mask_name() -> None:
    name = parse("sub-r001s001_ses-1_space-MNI152NLin2009aSym_label-L_desc-T1lesion_mask.nii.gz")
    assert name is not None
    assert name.entities == {
        "sub": "r001s001",
        "ses": "1",
        "space": "MNI152NLin2009aSym",
        "label": "L",
        "desc": "T1lesion",
    }
    assert (name.suffix, name.extension, name.is_nifti) == ("mask", ".nii.gz", True)


def test_a_name_may_lack_a_suffix_or_have_words_without_a_key_before_it() -> None:
    bare, roi = parse("sub-01_acq-T1w.nii.gz"), parse("sub-01_T1w_label-lesion_roi.nii.gz")
    assert bare is not None
    assert (bare.entities, bare.suffix, bare.words) == ({"sub": "01", "acq": "T1w"}, "", ())
    assert roi is not None
    assert (roi.entities, roi.suffix, roi.words) == ({"sub": "01", "label": "lesion"}, "roi", ("T1w",))


def test_a_hyphen_may_stand_in_a_value() -> None:
    name = parse("sub-CHU-012_T1w.nii.gz")
    assert name is not None
    assert (name.entities, name.suffix) == ({"sub": "CHU-012"}, "T1w")


@pytest.mark.parametrize(
    "name",
    [
        "MNI152NLin2009aSym.nii.gz",
        "sub-r001s001.nii.gz",
        "T1w.nii",
        "sub-r001s001_ses-1_T1w (1).nii.gz",
        "sub-Hélène_T1w.nii.gz",
        "sub-\udce901_T1w.nii.gz",
        "sub-01_acq-a_acq-b_T1w.nii.gz",
        "T1w_sub-01.nii.gz",
        "sub-01__T1w.nii.gz",
        "sub-_T1w.nii.gz",
        "",
        "_",
    ],
)
def test_a_name_that_is_not_entities_and_a_suffix_is_none(name: str) -> None:
    assert parse(name) is None


def test_only_nii_and_nii_gz_are_nifti_in_any_case() -> None:
    extensions = {".nii": True, ".NII.GZ": True, ".mgz": False, ".nii.gz.part": False, ".json": False}
    for extension, expected in extensions.items():
        name = parse(f"sub-a_T1w{extension}")
        assert name is not None
        assert name.is_nifti is expected
