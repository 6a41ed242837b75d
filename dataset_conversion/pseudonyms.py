"""Keyed pseudonyms for in-house data: a person gets the same new name in every conversion with the same key file.

A subject's new name is the HMAC-SHA256 (RFC 2104) of the old one under a secret that only the key file holds, so nobody
without that file can find the old name, not even by trying all names of a hospital. The file also lists old and new
names, for those who may go back. Pseudonymised data are still personal data.

    with Pseudonyms.open(Path("/safe/kerpape.key.json"), outside=[dataset]) as pseudonyms:
        cases = pseudonyms.pseudonymise(cases)
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import re
import secrets
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from dataset_conversion.errors import ConversionError, stop
from dataset_conversion.tables.case_table import Case, case_name
from nnunet_transformers.common.files import secret_partial, write_secret
from nnunet_transformers.common.locks import exclusive
from nnunet_transformers.common.problems import Finding

_FORMAT = "nnunet-transformers pseudonyms 1"
_SECRET_BYTES = 32
_LETTERS = 8  # of base32, 40 bits: two of 1000 subjects share them with a probability of 5e-7, and then get more

_KEPT = tuple(
    (re.compile(columns), re.compile(rf"({values})?|n/?a|nan|none|unknown", re.IGNORECASE))
    for columns, values in (
        (r"days_post_stroke", r"[-+]?\d{1,5}([.,]\d+)?"),
        (r"chronicity", r"\d([.,]0)?|(hyper|sub|early |late )?-?(acute|chronic)"),
        (r"(n_)?lesions?_(count|number|(lh|rh|other)(_[a-z_]+)?)", r"\d{1,3}([.,]0)?"),
        (r"lesion_volume(_ml|_mm3)?", r"\d{1,7}([.,]\d+)?"),
        (r"(primary|secondary)_stroke_hemisphere", r"left|right|both|bilateral|other|[lrb]h?"),
        (r"scanner_strength", r"\d([.,]\d+)?\s*(t|tesla)?"),
        (
            r"scanner_brand",
            r"(siemens|philips|ge|general electric|canon|toshiba|hitachi|united imaging|uih|bruker)"
            r"( healthineers| healthcare| medical systems| medical)?",
        ),
        (r"image_resolution", r"[\d.,]{1,6}\s*(mm)?(\s*[x×*]\s*[\d.,]{1,6}\s*(mm)?){0,2}(\s*iso\w*)?"),
    )
)
"""Metadata that name nobody: how the column is called, and what its values look like; anything else is left out."""


@dataclass
class _Person:
    """The new names of a subject.

    Attributes:
        sessions: old name of a session → its number.
    """

    pseudonym: str
    sessions: dict[str, str] = field(default_factory=dict)


class Pseudonyms:
    """New names for subjects, sessions and sites, each given once and kept; made by `Pseudonyms.open`."""

    def __init__(self, secret: bytes, people: dict[str, _Person], sites: dict[str, str]) -> None:
        self._secret = secret
        self._people = people
        self._sites = sites

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, outside: Sequence[Path] = (), *, save: bool = True) -> Iterator[Pseudonyms]:
        """Read a key file, or make a new secret where there is none; save what was added when the block succeeds.

        The file is readable to its owner only. Other runs with the same file wait until the block ends.

        Args:
            path: the key file; its folder must exist.
            outside: folders that it must not lie in, such as the dataset's.
            save: keep what was added; without it nothing is written, and a new secret is forgotten.

        Raises:
            ConversionError: KEY_INSIDE; KEY_FOREIGN, KEY_DAMAGED for a file that is not, or no longer, what was saved,
                which is left as it is; KEY_UNUSABLE where the file or its folder cannot be read or written.
        """
        with _usable(path):
            path = Path(path).resolve()
        for folder in outside:
            if path.is_relative_to(Path(folder).resolve()):
                remedy = "Whoever gets the data must not get the key: keep it in another folder."
                raise stop("KEY_INSIDE", f"the key file {path} lies inside {folder}", remedy)
        with contextlib.ExitStack() as lock:
            with _usable(path):
                path.parent.stat()  # a missing folder is an error without a lock too
                if save:
                    # On a file of its own, which stays: the key file is replaced when it is saved.
                    lock.enter_context(exclusive(path.with_name(f".{path.name}.lock")))
                    secret_partial(path).unlink(missing_ok=True)  # of a run that was killed: it holds the old names
                before = path.read_bytes() if path.exists() else None
            pseudonyms = cls(secrets.token_bytes(_SECRET_BYTES), {}, {}) if before is None else cls._parse(path, before)
            yield pseudonyms
            after = pseudonyms._content()
            if save and after != before:
                with _usable(path):
                    write_secret(path, after)

    def subject(self, name: str) -> str:
        """`sub-` and eight or more of a-z and 2-7, for a name with or without `sub-`."""
        name = _plain(name)
        if name not in self._people:
            full = self._keyed("subject", name)
            taken = {person.pseudonym for person in self._people.values()}
            pseudonym = next(free for n in range(_LETTERS, len(full) + 1) if (free := f"sub-{full[:n]}") not in taken)
            self._people[name] = _Person(pseudonym)
        return self._people[name].pseudonym

    def sessions(self, subject: str, names: Iterable[str]) -> dict[str, str]:
        """Numbers 1, 2, … for the sessions of a subject, in the order of their dates or numbers.

        Those that come in a later call get the numbers that follow, also if they are earlier in time. The empty name
        stays empty.
        """
        self.subject(subject)
        sessions = self._people[_plain(subject)].sessions
        names = list(names)
        for name in sorted({name for name in names if name} - sessions.keys(), key=_in_time):
            sessions[name] = str(1 + max(map(int, sessions.values()), default=0))
        return {name: sessions[name] if name else "" for name in names}

    def sites(self, names: Iterable[str]) -> dict[str, str]:
        """`site-1`, `site-2`, … in an order that says nothing about the names; the empty name stays empty."""
        names = list(names)
        new = {name for name in names if name} - self._sites.keys()
        for name in sorted(new, key=lambda name: self._keyed("site", name)):
            last = max((int(site.removeprefix("site-")) for site in self._sites.values()), default=0)
            self._sites[name] = f"site-{last + 1}"
        return {name: self._sites[name] if name else "" for name in names}

    def known(self, case: Case) -> set[str]:
        """The new names of a case and its subject, as far as they were given before."""
        person = self._people.get(_plain(case.subject))
        if person is None:
            return set()
        return {person.pseudonym, case_name(person.pseudonym, person.sessions.get(case.session, ""))}

    def key_for(self, purpose: str) -> bytes:
        """A key that only this secret makes; it does not tell the secret."""
        return self._keyed("key", purpose).encode("ascii")

    def pseudonymise(self, cases: Sequence[Case], *, keep_site: bool = False) -> list[Case]:
        """Cases with new names of case, subject, session and site, and with `safe_metadata` only.

        The paths of images and masks stay as they are, because they are still to be read; they must not be published.

        Args:
            cases: as a layout found them.
            keep_site: whether the site keeps its name.

        Raises:
            ConversionError: PSEUDONYM_CLASH where two cases have one subject and session.
        """
        sessions_of: dict[str, list[str]] = defaultdict(list)
        for case in cases:
            sessions_of[case.subject].append(case.session)
        # In an order that says nothing about the names: of two that share letters the second gets more.
        drawn = sorted(sessions_of, key=lambda subject: self._keyed("subject", _plain(subject)))
        new_sessions = {subject: self.sessions(subject, sessions_of[subject]) for subject in drawn}
        new_sites = {} if keep_site else self.sites(case.site for case in cases)
        result = []
        old_of: dict[str, str] = {}
        findings = []
        for case in cases:
            subject, session = self.subject(case.subject), new_sessions[case.subject][case.session]
            name = case_name(subject, session)
            if name in old_of:
                problem = f"it has the subject and the session of {old_of[name]}, so both would get one name"
                findings.append(Finding("PSEUDONYM_CLASH", problem, "Give each its own session.", case.case))
            old_of[name] = case.case
            site = new_sites.get(case.site, case.site)
            metadata = safe_metadata(case.metadata)
            result.append(replace(case, case=name, subject=subject, session=session, site=site, metadata=metadata))
        if findings:
            raise ConversionError(findings)
        return result

    def _keyed(self, kind: str, name: str) -> str:
        """52 letters and digits (lower-case base32) that only this secret makes of this name."""
        message = f"{kind}:{name}".encode("utf-8", "surrogateescape")
        digest = hmac.new(self._secret, message, hashlib.sha256).digest()
        return base64.b32encode(digest).decode("ascii").rstrip("=").lower()

    def _content(self) -> bytes:
        content = {
            "format": _FORMAT,
            "secret": self._secret.hex(),
            "secret_check": self._keyed("check", "secret"),
            "subjects": {name: asdict(person) for name, person in self._people.items()},
            "sites": self._sites,
        }
        return (json.dumps(content, indent=1) + "\n").encode("ascii")

    @classmethod
    def _parse(cls, path: Path, content: bytes) -> Pseudonyms:
        """What `_content` made, after making sure that it still fits together."""
        try:
            data = json.loads(content)
        except ValueError:
            data = None
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            problem = f"{path} is not a key file, or one cut short"
            remedy = "Give another path, or get the key file back from a copy. The file was left as it is."
            raise stop("KEY_FOREIGN", problem, remedy)
        try:
            people = {name: _Person(**person) for name, person in data["subjects"].items()}
            pseudonyms = cls(bytes.fromhex(data["secret"]), people, dict(data["sites"]))
            damage = pseudonyms._damage(data["secret_check"])
        except (KeyError, TypeError, ValueError, AttributeError):
            damage = "an entry is missing or of another kind"
        if damage:
            remedy = "Get it back from a copy: with another key the same people would get other names."
            raise stop("KEY_DAMAGED", f"the key file {path} is damaged: {damage}", f"{remedy} It was left as it is.")
        return pseudonyms

    def _damage(self, secret_check: str) -> str:
        """What does not fit together, or nothing."""
        if len(self._secret) != _SECRET_BYTES or secret_check != self._keyed("check", "secret"):
            return "the secret was changed"
        for name, person in self._people.items():
            pseudonym = person.pseudonym.removeprefix("sub-")
            if len(pseudonym) < _LETTERS or not self._keyed("subject", name).startswith(pseudonym):
                return f"{person.pseudonym} is not the pseudonym of {name}"
            if not _are_numbers(person.sessions.values()):
                return f"the sessions of {name} are not numbers, each once"
        if not _are_numbers(site.removeprefix("site-") for site in self._sites.values()):
            return "the sites are not site-1, site-2, …, each once"
        return ""


def safe_metadata(row: Mapping[str, str]) -> dict[str, str]:
    """The metadata that name nobody: known columns, with values of the kind they should hold, others emptied."""
    kept = {}
    for column, value in row.items():
        pattern = _kept_values(column)
        if pattern:
            kept[column] = value if pattern.fullmatch(value.strip()) else ""
    return kept


def dropped_metadata(cases: Sequence[Case]) -> list[Finding]:
    """What `safe_metadata` leaves out of these cases: a warning per column, which tells no value and no case."""
    counts: Counter[str] = Counter()
    for case in cases:
        safe = safe_metadata(case.metadata)
        counts.update(column for column, value in case.metadata.items() if value.strip() and not safe.get(column))
    findings = []
    for column, count in sorted(counts.items()):
        why = "have an unexpected form" if _kept_values(column) else "might tell who somebody is"
        problem = f"metadata left out: {count} values of {column}, which {why}"
        remedy = "Nothing to do, unless they are needed: then keep them elsewhere, by pseudonym."
        findings.append(Finding("METADATA_DROPPED", problem, remedy, severity="warning"))
    return findings


def _kept_values(column: str) -> re.Pattern[str] | None:
    """What the values of a metadata column must look like; None for a column that is left out."""
    plain = re.sub(r"[^a-z0-9]+", "_", column.casefold()).strip("_")
    return next((values for columns, values in _KEPT if columns.fullmatch(plain)), None)


def _plain(name: str) -> str:
    """A subject's name as different systems write it: accents in one or two characters, `sub-` or not."""
    return unicodedata.normalize("NFC", name.strip()).removeprefix("sub-")


def _in_time(session: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sorts by date (`20210131`, `2021-01-31`, `31.1.2021`) or number, numbers in text by their value."""
    parts = re.findall(r"\d+|\D+", re.sub(r"^(\d{1,2})([-./_])(\d{1,2})\2(\d{4})", r"\4\2\3\2\1", session))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], session


def _are_numbers(texts: Iterable[str]) -> bool:
    texts = list(texts)
    return all(re.fullmatch(r"[1-9]\d*", text) for text in texts) and len(set(texts)) == len(texts)


@contextlib.contextmanager
def _usable(path: Path) -> Iterator[None]:
    """Turn what the system says about a key file into an error for the user."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # a link to itself is the latter up to Python 3.12
        remedy = "Its folder must exist and have room, and you must be allowed to read and write there."
        reason = getattr(error, "strerror", None) or error
        raise stop("KEY_UNUSABLE", f"cannot use the key file {path}: {reason}", remedy) from None
