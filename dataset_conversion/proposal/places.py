"""Which parts of the paths say subject, session and site, from how the files gather under each reading.

A reading is right where each file of a case is the only one of its name there, and where the files gather most: a level
of sites has too many files of one name, a level of visits mixes patients, a level of series parts what is one case.
Files that lie at different depths, or in folders of their own (images, masks), are read apart and meet in the subjects
that they have in common.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from dataset_conversion.layouts.patterns import MASK
from dataset_conversion.proposal.roles import BARE_MASK, Named, fold

_DAY, _MONTH, _YEAR, _BETWEEN = r"(0[1-9]|[12]\d|3[01])", r"(0[1-9]|1[0-2])", r"(19|20)\d\d", r"[-_. ]?"
_DATE = rf"({_YEAR}{_BETWEEN}{_MONTH}{_BETWEEN}{_DAY}|{_DAY}{_BETWEEN}{_MONTH}{_BETWEEN}{_YEAR})([-_ t]?\d{{4,6}})?"
_VISIT = (
    r"(ses|sess|session|visite?|vis|v|m|mois|month|mo|j|jour|day|d|t|tp|time.?point|temps|exam|examen|irm|mri|scan|w|week"
    r"|sem|semaine|fu|s|suivi|follow.?up|year|an)[-_ ]?\d+"
    r"|(?![23]d)\d+[-_ ]?(m|mois|months?|j|jours?|d|days?|w|weeks?|sem|semaines?|ans?|y|years?)"
    r"|(baseline|bl|pre|post|inclusion|initiale?|suivi|followup|follow.up)"
)
_SESSION = re.compile(rf"{_DATE}|{_VISIT}")
_TAIL = re.compile(rf"(?P<rest>.*[^-_. ])[-_. ]+(?P<tail>{_DATE}|{_VISIT})")
_GROUP = re.compile(
    r"patients?|subjects?|sujets?|participants?|controls?|controles?|temoins?|sains?|healthy|cas|cases|avc.*|stroke.*"
    r"|lesions?.*|.*chroni\w*|.*aigue?s?|.*acute|(19|20)\d\d|trash|rebut|old|data|export.*|lot.?\d+|batch.?\d+|train.*"
    r"|test.*|validation|val"
)
_SPLITS = re.compile(r"train|training|tr|test|testing|ts")
SEPARATORS = "-_. "


class Slot(NamedTuple):
    """A part of a path: a folder by its position, or the file's name before ("head") or behind ("tail") its role.

    `part` is "" for all of it, "rest" for what stands before a date or visit at its end, "end" for that, "first" for
    what stands before the first separator, and "number" for the last digits.
    """

    place: int | str
    part: str = ""

    def of(self, file: Named) -> str:
        """Its text in the path of a file; empty where there is none."""
        if isinstance(self.place, int):
            text = file.folders[self.place]
        else:
            text = (file.head if self.place == "head" else file.tail).strip(SEPARATORS)
        if not self.part:
            return text
        if self.part == "number":
            return number_of(text)
        if self.part == "first":
            return re.split(f"[{SEPARATORS}]", text)[0]
        return end_of(text)[self.part == "end"]


def number_of(text: str) -> str:
    """The last digits in it."""
    return (re.findall(r"\d+", text) or [""])[-1]


def end_of(text: str) -> tuple[str, str]:
    """`0012`, `M3` of `0012_M3`: a date or a visit at the end, and what stands before it."""
    found = _TAIL.fullmatch(fold(text))
    return (text[: found.end("rest")], text[found.start("tail") :]) if found else ("", "")


@dataclass(frozen=True)
class Places:
    """Where files say whose they are.

    Attributes:
        with_site: whether a subject is told by its site as well, for sites number their patients alike.
    """

    subject: Slot
    session: Slot | None = None
    site: Slot | None = None
    split: Slot | None = None
    with_site: bool = False

    def case(self, file: Named) -> tuple[str, str, str]:
        """Site (where it tells subjects apart), subject and session."""
        site = self.site.of(file) if self.site and self.with_site else ""
        return site, self.subject.of(file), self.session.of(file) if self.session else ""


Family = tuple[object, ...]


def find_places(files: Sequence[Named]) -> dict[Named, Places]:
    """The places of each file that has any; files are images and masks.

    A family of files is what lies at one depth under folders of the same roles.
    """
    families: dict[Family, list[Named]] = defaultdict(list)
    for file in files:
        families[_family(file)].append(file)
    alone = {family: (files, best) for family, files, best in _split(families)}
    families = {family: files for family, (files, _) in alone.items()}
    order = sorted(families, key=lambda each: (-sum(not _is_mask(file) for file in families[each]), str(each)))
    places: dict[Family, Places] = {}
    known: set[str] = set()
    for family in order:
        files, best = alone[family]
        found = _read(files, frozenset(known)) if known or best is None else best
        if found and not (known and _is_beside(found, files, known)):
            places[family] = found
            known |= {found.subject.of(file) for file in families[family]}
    places = _without_doubtful_numbers(families, places)
    places = _without_lonely_sessions(families, places)
    return {
        file: places[family]
        for family in order
        if family in places
        for file in families[family]
        if places[family].subject.of(file)
    }


def _is_beside(places: Places, files: Sequence[Named], known: Collection[str]) -> bool:
    """Whether files are all of one "subject" without a number that no other files know: a folder of other things."""
    subjects = {places.subject.of(file) for file in files}
    return len(subjects) == 1 and not subjects & set(known) and not re.search(r"\d", subjects.pop())


def _is_mask(file: Named) -> bool:
    return file.role in (MASK, BARE_MASK)


def _family(file: Named) -> Family:
    return len(file.folders), tuple((i, fold(file.folders[i])) for i in sorted(file.role_folders))


def _split(families: Mapping[Family, list[Named]]) -> Iterable[tuple[Family, list[Named], Places | None]]:
    """Each with its reading; those of which some say the subject before the role and others behind it, apart."""
    for family, files in families.items():
        best = _read(files, frozenset())
        if best and all(best.subject.of(file) for file in files):
            yield family, files, best
            continue
        parts = defaultdict(list)
        for file in files:
            parts[bool(Slot("head").of(file)), bool(Slot("tail").of(file))].append(file)
        for key, part in parts.items():
            yield (*family, key), part, None


def _read(files: Sequence[Named], known: frozenset[str]) -> Places | None:
    """The best reading of a family; None where nothing could be a subject."""
    depth = len(files[0].folders)
    free = [i for i in range(depth) if not all(i in file.role_folders for file in files)]
    places: tuple[int | str, ...] = (*free, "head", "tail")
    whole = [Slot(place) for place in places]
    slots = [Slot(slot.place, part) for slot in whole for part in ("", "rest", "end")] + [Slot("head", "first")]
    texts = {slot: [slot.of(file) for file in files] for slot in slots}
    texts = {slot: those for slot, those in texts.items() if any(those)}
    numbers_known = frozenset(map(number_of, known)) - {""}
    if known:  # a number is what two families may have in common
        for slot in whole:
            numbers = [Slot(slot.place, "number").of(file) for file in files]
            if slot in texts and len(numbers_known & set(numbers)) > len(known & set(texts[slot])):
                texts[Slot(slot.place, "number")] = numbers
    names = [(file.role, fold(file.core), re.sub(r"\d+", "#", fold(file.tail))) for file in files]
    split = next((slot for slot in texts if _says_split(slot, texts[slot])), None)
    dated = {slot for slot, those in texts.items() if slot != split and _share(_is_session, those) >= 0.9}
    best: tuple[tuple[object, ...], Places] | None = None
    for subject, session in _pairs(texts, dated - {Slot("head", "first")}, split):
        for site in (None, *_sites(subject, session, texts, split)):
            score = _score(
                Places(subject, session, site),
                texts,
                names,
                dated,
                numbers_known if subject.part == "number" else known,
            )
            if best is None or score < best[0]:
                best = score, Places(subject, session, site, split, with_site=site is not None)
    if best is None or best[0][0] == len(files):
        return None
    found = best[1]
    return found if found.site else replace(found, site=_site(found, texts, split))


def _pairs(texts: Mapping[Slot, list[str]], dated: set[Slot], split: Slot | None) -> Iterable[tuple[Slot, Slot | None]]:
    """Slots of the subject, each without a session and with each that could be it."""
    for subject in texts:
        if subject == split or subject.part == "end":
            continue
        yield subject, None
        for session in dated:
            if session.place != subject.place or (subject.part, session.part) == ("rest", "end"):
                yield subject, session
        if any(re.search(r"\d", text) for text in texts[subject]) and isinstance(subject.place, int):
            for session in texts:  # folders below the subject that no word says to be visits
                inside = isinstance(session.place, int) and session.place > subject.place and not session.part
                if inside and session not in dated and 1 < len(set(texts[session])) < len(set(texts[subject])):
                    yield subject, session


def _sites(subject: Slot, session: Slot | None, texts: Mapping[Slot, list[str]], split: Slot | None) -> list[Slot]:
    """Folders above the subject that may tell its namesakes apart."""
    last = subject.place if isinstance(subject.place, int) else 10**6
    subjects = len(set(texts[subject]))
    return [
        slot
        for slot in texts
        if isinstance(slot.place, int)
        and slot.place < last
        and not slot.part
        and slot != split
        and (session is None or slot.place != session.place)
        and len(set(texts[slot])) > 1
        and (len(set(texts[slot])) <= subjects or not any(re.search(r"\d", text) for text in texts[slot]))
    ]


def _score(
    places: Places,
    texts: Mapping[Slot, list[str]],
    names: Sequence[tuple[str, str, str]],
    dated: set[Slot],
    known: Collection[str],
) -> tuple[object, ...]:
    """The smaller the better; `known` are subjects of other families."""
    subject, session, site = places.subject, places.session, places.site
    subjects = texts[subject]
    columns = [texts[slot] for slot in (subject, session, site) if slot]
    keys = list(zip(*columns, strict=True))
    missing = sum(not text for text in subjects)
    strangers = sum(text not in known for text in subjects) if known else 0
    twice = len(keys) - len(set(zip(keys, names, strict=True)))
    visits = set(texts[session]) if session else set()
    alone = 0  # a visit that no two subjects have, of subjects that have several, is rather a subject
    if session and len(set(subjects)) < len(set(keys)) == len(visits) and not _share(_is_date, texts[session]) > 0.5:
        alone = 1 + (len(set(subjects)) > 1 and not any(re.search(r"\d", text) for text in subjects))
    is_group = len(set(subjects)) == 1 and bool(
        re.fullmatch(r"\D+", subjects[0]) and _GROUP.fullmatch(fold(subjects[0]))
    )
    # A visit, as long as something else can be the subject.
    is_session = subject in dated and bool(
        set(texts) - {subject, Slot(subject.place, "end"), Slot(subject.place, "rest")}
    )
    return (
        missing,
        strangers > len(subjects) / 2,
        twice,
        is_group,
        is_session + alone,
        is_session and len(visits) > len(set(subjects)),
        site is not None,
        len(set(keys)),
        subject.part == "number",
        session is None,
        session is not None and _share(_is_date, texts[session]) > 0.5,
        not any(re.search(r"\d", text) for text in subjects),
        _rank(subject),
        _rank(session) if session else (),
        _rank(site) if site else (),
    )


def _rank(slot: Slot) -> tuple[int, str]:
    return (slot.place if isinstance(slot.place, int) else {"head": 1000, "tail": 1001}[slot.place]), slot.part


def _site(places: Places, texts: Mapping[Slot, list[str]], split: Slot | None) -> Slot | None:
    """The folder above the subject that is the same for all of a subject, and for other subjects, and is no group."""
    found = None
    for slot in _sites(places.subject, places.session, texts, split):
        sites_of = defaultdict(set)
        for subject, site in zip(texts[places.subject], texts[slot], strict=True):
            sites_of[subject].add(site)
        per_site = Counter(next(iter(sites)) for sites in sites_of.values())
        groups = _share(lambda text: bool(_GROUP.fullmatch(fold(text)) or _is_session(text)), list(per_site)) > 0.3
        if all(len(sites) == 1 for sites in sites_of.values()) and max(per_site.values()) > 1 and not groups:
            found = slot
    return found


def _is_session(text: str) -> bool:
    return bool(_SESSION.fullmatch(fold(text)))


def _is_date(text: str) -> bool:
    return bool(re.fullmatch(_DATE, fold(text)))


def _says_split(slot: Slot, texts: Sequence[str]) -> bool:
    said = {fold(text) for text in texts}
    return isinstance(slot.place, int) and len(said) > 1 and all(map(_SPLITS.fullmatch, said))


def _share(holds: Callable[[str], bool], texts: Sequence[str]) -> float:
    """Of all texts, those for which something holds; each distinct one is asked once."""
    return sum(count for text, count in Counter(texts).items() if holds(text)) / len(texts)


def _without_doubtful_numbers(
    families: Mapping[Family, list[Named]], places: dict[Family, Places]
) -> dict[Family, Places]:
    """Where one family knows subjects by their number only (AVC012 here, 012 there), unless others share numbers."""
    names: dict[str, set[str]] = defaultdict(set)
    for family, each in places.items():
        if each.subject.part != "number":
            for file in families[family]:
                names[number_of(each.subject.of(file))].add(each.subject.of(file))
    if all(number and len(those) == 1 for number, those in names.items()):
        return places
    whole = {family: replace(each, subject=Slot(each.subject.place)) for family, each in places.items()}
    return {family: whole[family] if each.subject.part == "number" else each for family, each in places.items()}


def _without_lonely_sessions(
    families: Mapping[Family, list[Named]], places: dict[Family, Places]
) -> dict[Family, Places]:
    """Where some files tell no session, and each subject has one only, nobody needs it."""
    if all(each.session for each in places.values()):
        return places
    sessions = defaultdict(set)
    for family, each in places.items():
        for file in families[family]:
            if each.session:
                sessions[each.case(file)[:2]].add(each.session.of(file))
    if any(len(those) > 1 for those in sessions.values()):
        return places
    return {family: replace(each, session=None) for family, each in places.items()}
