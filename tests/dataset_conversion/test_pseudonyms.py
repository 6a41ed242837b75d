from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_conversion import pseudonyms as module
from dataset_conversion.errors import ConversionError
from dataset_conversion.pseudonyms import Pseudonyms, dropped_metadata, safe_metadata
from dataset_conversion.tables.case_table import Case

names = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=12)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    folder = tmp_path / "clés sûres"
    folder.mkdir()
    return folder / "kerpape.key.json"


def new() -> Pseudonyms:
    return Pseudonyms(os.urandom(32), {}, {})


def refusal(key: Path, **options) -> str:
    with pytest.raises(ConversionError) as error, Pseudonyms.open(key, **options):
        pass
    [finding] = error.value.findings
    return finding.code


@given(st.lists(names, unique_by=lambda name: module._plain(name)))
def test_different_subjects_get_different_names_that_nnunet_and_bids_take(subjects: list[str]) -> None:
    pseudonyms = new()
    given_names = [pseudonyms.subject(subject) for subject in subjects]
    assert len(set(given_names)) == len(subjects)
    assert all(re.fullmatch(r"sub-[a-z2-7]{8,}", name) for name in given_names)
    assert [pseudonyms.subject(subject) for subject in subjects] == given_names


@given(names)
def test_a_name_tells_nothing_without_the_secret(subject: str) -> None:
    """Two secrets make two names, and neither is a hash that anybody could compute."""
    one, other = new(), new()
    assert one.subject(subject) != other.subject(subject)
    for digest in (hashlib.sha256(subject.encode()), hashlib.md5(subject.encode())):
        assert not digest.hexdigest().startswith(one.subject(subject).removeprefix("sub-"))


@given(st.lists(names, min_size=2, unique_by=lambda name: module._plain(name)), st.randoms())
def test_a_name_does_not_depend_on_who_else_is_in_the_file(subjects: list[str], random) -> None:
    secret = os.urandom(32)
    together = Pseudonyms(secret, {}, {})
    mixed = random.sample(subjects, len(subjects))
    of_subject = {subject: together.subject(subject) for subject in mixed}
    assert all(Pseudonyms(secret, {}, {}).subject(subject) == of_subject[subject] for subject in subjects)


def test_names_are_the_published_function_of_secret_and_name() -> None:
    """HMAC-SHA256 of `subject:31768` under 32 zero bytes, as OpenSSL and base32 compute it."""
    assert Pseudonyms(bytes(32), {}, {}).subject("31768") == "sub-albp6bpb"


@pytest.mark.parametrize("other", ["sub-Émile", "E\N{COMBINING ACUTE ACCENT}mile", " Émile "])
def test_spellings_of_one_name_are_one_person(other: str) -> None:
    pseudonyms = new()
    assert pseudonyms.subject(other) == pseudonyms.subject("Émile")


def test_names_that_would_be_equal_get_longer(monkeypatch: pytest.MonkeyPatch, key: Path) -> None:
    monkeypatch.setattr(module, "_LETTERS", 1)
    subjects = [f"P{number}" for number in range(200)]
    with Pseudonyms.open(key) as pseudonyms:
        first = [pseudonyms.subject(subject) for subject in subjects]
    assert len(set(first)) == 200
    with Pseudonyms.open(key) as pseudonyms:
        assert [pseudonyms.subject(subject) for subject in reversed(subjects)] == first[::-1]


def test_who_gets_the_longer_name_does_not_depend_on_the_order_of_the_old_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_LETTERS", 1)
    cases = [Case(f"P{number}", f"P{number}") for number in range(100)]
    forward = Pseudonyms(bytes(32), {}, {}).pseudonymise(cases)
    backward = Pseudonyms(bytes(32), {}, {}).pseudonymise(cases[::-1])
    assert forward == backward[::-1]


def test_a_later_conversion_with_the_key_gives_the_same_names(key: Path) -> None:
    cases = [Case("DUPONT_ses-20210131", "DUPONT", session="20210131", site="Lorient")]
    with Pseudonyms.open(key) as pseudonyms:
        before = pseudonyms.pseudonymise(cases)
    with Pseudonyms.open(key) as pseudonyms:
        pseudonyms.pseudonymise([Case("DURAND", "DURAND", site="Rennes")])
    with Pseudonyms.open(key) as pseudonyms:
        assert pseudonyms.pseudonymise(cases) == before


def test_the_key_file_leads_back_to_the_subject(key: Path) -> None:
    with Pseudonyms.open(key) as pseudonyms:
        pseudonym = pseudonyms.subject("sub-Hélène \udce9")  # the last is a byte of a file name that is not UTF-8
    people = json.loads(key.read_text())["subjects"]
    assert [name for name, person in people.items() if person["pseudonym"] == pseudonym] == ["Hélène \udce9"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_the_key_file_is_its_owners_only_and_keeps_a_mode_set_by_hand(key: Path) -> None:
    for mode in (0o600, 0o640):
        with Pseudonyms.open(key) as pseudonyms:
            pseudonyms.subject(f"P{mode}")
        assert stat.S_IMODE(key.stat().st_mode) == mode
        key.chmod(0o640)
    assert sorted(path.name for path in key.parent.iterdir()) == [f".{key.name}.lock", key.name]


KILLED = """
import os, signal, sys
from pathlib import Path
from dataset_conversion.pseudonyms import Pseudonyms
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
with Pseudonyms.open(Path(sys.argv[1])) as pseudonyms:
    pseudonyms.subject("DUPONT")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="nothing kills a process so on Windows")
@pytest.mark.parametrize("is_new", [True, False])
def test_the_next_run_removes_the_names_that_a_killed_one_left_beside_the_key(key: Path, is_new: bool) -> None:
    if not is_new:
        with Pseudonyms.open(key) as pseudonyms:
            pseudonyms.subject("P1")
    before = {path.name for path in key.parent.iterdir()} | {f".{key.name}.lock"}
    child = subprocess.run([sys.executable, "-c", KILLED, str(key)], capture_output=True, text=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr
    [left] = [path for path in key.parent.iterdir() if path.name not in before]
    assert "DUPONT" in left.read_text()
    assert key.exists() != is_new
    with Pseudonyms.open(key):
        pass
    assert sorted(path.name for path in key.parent.iterdir()) == [f".{key.name}.lock", key.name]
    assert "DUPONT" not in key.read_text()


def test_a_linked_key_file_stays_a_link(key: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(key)
    with Pseudonyms.open(link) as pseudonyms:
        pseudonyms.subject("P1")
    assert link.is_symlink()
    assert "P1" in json.loads(key.read_text())["subjects"]


def test_nothing_is_saved_when_the_conversion_fails(key: Path) -> None:
    with pytest.raises(ConversionError), Pseudonyms.open(key) as pseudonyms:
        pseudonyms.pseudonymise([Case("run1", "P1"), Case("run2", "P1")])
    assert not key.exists()


def test_a_key_that_learns_nothing_is_not_written_again(key: Path) -> None:
    written = []
    for _ in range(2):
        with Pseudonyms.open(key) as pseudonyms:
            pseudonyms.subject("P1")
        written.append(key.stat().st_ino)
    assert written[0] == written[1]


def test_the_key_file_must_not_lie_in_the_dataset(tmp_path: Path, key: Path) -> None:
    dataset = tmp_path / "nnUNet_raw"
    (dataset / "Dataset001_X").mkdir(parents=True)
    (tmp_path / "link").symlink_to(dataset)
    for inside in (
        dataset / "key.json",
        tmp_path / "link" / "Dataset001_X" / "key.json",
        dataset / ".." / dataset / "k",
    ):
        assert refusal(inside, outside=[dataset]) == "KEY_INSIDE"
        assert refusal(inside, outside=[tmp_path / "link"]) == "KEY_INSIDE"
    assert not list(dataset.rglob("*.json"))
    with Pseudonyms.open(key, outside=[dataset]):
        pass


@pytest.mark.parametrize("content", [b"", b"subject\tsession\n", b"{}", b'{"format": "another"}', b"[1]", b"\xff\x00"])
def test_a_file_of_another_kind_is_refused_and_left_alone(key: Path, content: bytes) -> None:
    key.write_bytes(content)
    assert refusal(key) == "KEY_FOREIGN"
    assert key.read_bytes() == content


def test_a_key_file_cut_short_is_refused_and_left_alone(key: Path) -> None:
    with Pseudonyms.open(key) as pseudonyms:
        pseudonyms.subject("P1")
    content = key.read_bytes()
    for length in range(0, len(content) - 2, 7):
        key.write_bytes(content[:length])
        assert refusal(key) == "KEY_FOREIGN"
        assert key.read_bytes() == content[:length]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("secret"),
        lambda data: data.update(secret="00" * 32),
        lambda data: data.update(secret="zz"),
        lambda data: data.update(secret=data["secret"][:-2]),
        lambda data: data.update(subjects=[]),
        lambda data: data.pop("sites"),
        lambda data: data["subjects"]["P1"].update(pseudonym="sub-aaaaaaaa"),
        lambda data: data["subjects"]["P1"].update(pseudonym="sub-"),
        lambda data: data["subjects"]["P1"].update(sessions={"a": "1", "b": "1"}),
        lambda data: data["subjects"]["P1"].update(sessions={"a": 1}),
        lambda data: data["subjects"].update(P2=data["subjects"]["P1"]),
        lambda data: data["sites"].update(Rennes="site-1"),
    ],
)
def test_a_key_file_that_does_not_fit_together_is_refused_and_left_alone(key: Path, damage) -> None:
    with Pseudonyms.open(key) as pseudonyms:
        pseudonyms.pseudonymise([Case("P1_ses-a", "P1", session="a", site="Lorient")])
    data = json.loads(key.read_text())
    damage(data)
    key.write_text(json.dumps(data))
    content = key.read_bytes()
    assert refusal(key) == "KEY_DAMAGED"
    assert key.read_bytes() == content


def test_another_secret_is_noticed_before_there_are_subjects(key: Path) -> None:
    with Pseudonyms.open(key):
        pass
    data = json.loads(key.read_text())
    key.write_text(json.dumps({**data, "secret": "00" * 32}))
    assert refusal(key) == "KEY_DAMAGED"


def test_a_subject_can_be_taken_out_of_the_key_file(key: Path) -> None:
    with Pseudonyms.open(key) as pseudonyms:
        kept, _ = pseudonyms.subject("P1"), pseudonyms.subject("P2")
    data = json.loads(key.read_text())
    del data["subjects"]["P2"]
    key.write_text(json.dumps(data))
    with Pseudonyms.open(key) as pseudonyms:
        assert pseudonyms.subject("P1") == kept


def test_a_key_file_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no such folder" / "key.json") == "KEY_UNUSABLE"
    assert refusal(tmp_path) == "KEY_UNUSABLE"


def test_runs_at_the_same_time_lose_nothing(key: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dataset_conversion.pseudonyms import Pseudonyms\n"
        "for number in range(8):\n"
        "    with Pseudonyms.open(Path(sys.argv[1])) as pseudonyms: pseudonyms.subject(f'{sys.argv[2]}{number}')"
    )
    runs = [subprocess.Popen([sys.executable, "-c", code, str(key), letter]) for letter in "ABC"]
    assert [run.wait() for run in runs] == [0, 0, 0]
    assert set(json.loads(key.read_text())["subjects"]) == {
        f"{letter}{number}" for letter in "ABC" for number in range(8)
    }


@pytest.mark.parametrize(
    "in_order",
    [
        ["20201231", "20210101", "20210930"],
        ["2020-12-31", "2021-01-01", "2021-09-30"],
        ["31.12.2020", "1.1.2021", "30.9.2021"],
        ["31/12/2020", "01/01/2021", "30/09/2021"],
        ["M6", "M12", "M100"],
        ["1", "2", "10"],
    ],
)
def test_sessions_are_numbered_in_their_order_and_keep_their_number(key: Path, in_order: list[str]) -> None:
    with Pseudonyms.open(key) as pseudonyms:
        assert pseudonyms.sessions("P1", in_order[:0:-1]) == {in_order[1]: "1", in_order[2]: "2"}
    with Pseudonyms.open(key) as pseudonyms:
        assert pseudonyms.sessions("sub-P1", in_order) == {in_order[0]: "3", in_order[1]: "1", in_order[2]: "2"}
        assert pseudonyms.sessions("P2", in_order) == dict(zip(in_order, "123", strict=True))


# Letters and digits that no pseudonym has.
identities = st.text("0189ÉÀÖXYZ", min_size=1, max_size=10)


@settings(deadline=None)
@given(st.lists(st.tuples(identities, st.just("") | identities, st.just("") | identities), unique=True))
def test_nothing_of_the_old_names_is_in_the_new_cases(rows: list[tuple[str, str, str]]) -> None:
    rows = list({row[:2]: row for row in rows}.values())
    cases = [
        Case(
            f"{subject}_{session}", subject, session=session, site=site, metadata={"name": subject, "chronicity": site}
        )
        for subject, session, site in rows
    ]
    result = new().pseudonymise(cases)
    assert len({case.case for case in result}) == len(cases)
    subject_of = {old.subject: case.subject for old, case in zip(cases, result, strict=True)}
    assert len(set(subject_of.values())) == len(subject_of)
    for old, case in zip(cases, result, strict=True):
        assert not set(case.subject) & set("0189ÉÀÖXYZ")
        assert case.case == (f"{case.subject}_ses-{case.session}" if old.session else case.subject)
        assert re.fullmatch(r"\d+" if old.session else "", case.session)
        assert re.fullmatch(r"site-\d+" if old.site else "", case.site)
        assert set(case.metadata) == {"chronicity"}


def test_paths_and_split_stay_and_the_site_if_asked() -> None:
    case = Case("a", "a", "test", {"T1w": "a/t1.nii"}, ("a/m.nii",), site="Lorient")
    [result] = new().pseudonymise([case], keep_site=True)
    assert (result.split, result.images, result.masks, result.site) == ("test", case.images, case.masks, "Lorient")


def test_the_order_of_sites_does_not_follow_their_names() -> None:
    letters = "ABCDEFGHIJKLMNOPQRST"
    assert list(new().sites(letters).values()) != [f"site-{number}" for number in range(1, 21)]


def test_two_cases_of_one_subject_and_session_are_refused() -> None:
    with pytest.raises(ConversionError) as error:
        new().pseudonymise([Case("run1", "P1", session="1"), Case("run2", "sub-P1", session="1")])
    assert [(finding.code, finding.case) for finding in error.value.findings] == [("PSEUDONYM_CLASH", "run2")]


SAFE = {
    "days_post_stroke": "-4",
    "Days Post Stroke": "1203",
    "chronicity": "chronic",
    "# Lesions LH Cortical and White Matter": "2",
    "lesion_volume": "33226",
    "primary_stroke_hemisphere": "Left",
    "scanner_strength": "3T",
    "scanner_brand": "GE Healthcare",
    "image_resolution": "0.94 x 0.94 x 1.5 mm",
}
TELLING = {
    "age": "63",
    "indi_subject_id": "031768",
    "name": "Émile",
    "days_post_stroke": "20210131",
    "scanner_brand": "Siemens Dupont",
    "chronicity": "AVC le 31/01/2021",
    "primary_stroke_location": "seen by Dr Dupont",
}


@pytest.mark.parametrize(("column", "value"), [*SAFE.items(), *((column, "n/a") for column in SAFE)])
def test_metadata_that_name_nobody_are_kept(column: str, value: str) -> None:
    assert safe_metadata({column: value}) == {column: value}


@pytest.mark.parametrize(("column", "value"), TELLING.items())
def test_metadata_that_may_tell_who_somebody_is_are_left_out(column: str, value: str) -> None:
    assert value not in safe_metadata({column: value}).values()


def test_what_is_left_out_is_counted_without_telling_it() -> None:
    cases = [Case("P1", "P1", metadata=TELLING), Case("P2", "P2", metadata={**SAFE, "age": "70", "name": ""})]
    assert dropped_metadata([Case("P3", "P3", metadata={**SAFE, "name": " "})]) == []
    findings = dropped_metadata(cases)
    assert {finding.severity for finding in findings} == {"warning"}
    assert {finding.problem.split(" of ")[1].split(",")[0] for finding in findings} == set(TELLING)
    assert any("2 values of age" in finding.problem for finding in findings)
    text = "\n".join(map(str, findings))
    assert not [value for value in (*TELLING.values(), "P1", "P2") if re.search(rf"\b{re.escape(value)}\b", text)]


def test_a_key_file_that_is_a_link_to_itself_is_an_error(key: Path) -> None:
    key.symlink_to(key.name)
    assert refusal(key) == "KEY_UNUSABLE"
