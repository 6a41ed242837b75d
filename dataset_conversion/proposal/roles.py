"""What a path says about its image: which modality, a lesion mask, something else, or nothing.

The file's own name goes before those of its folders, the inner ones before the outer ones; a folder of masks says more
than the name of the image that they were drawn on. That a mask is of a lesion is decided as in BIDS (`lesion_names`).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from dataset_conversion.layouts.entities import BidsName
from dataset_conversion.layouts.lesion_names import meaning
from dataset_conversion.layouts.patterns import MASK

OTHER = "other"
BARE_MASK = "bare mask"
"""A mask whose name does not say of what."""

_START = r"(?<![a-z])(?:\dd|irm|mri|sag|ax|tra|cor)?"
_IMAGES = {
    "ADC": r"(?<![a-z])d?adc(?![a-z])|apparent.diffusion",
    "TRACE": r"(?<![a-z])tracew?(?![a-z])",
    "DWI": r"(?<![a-z])(dwi|diff?|diffusion|b.?1000)(?![a-z])",
    "T2starw": r"t2.?(star|etoile|\*|(eg|gre|ffe|hemo|s)(?![a-z]))",
    "SWI": r"(?<![a-z])(swi|swan|swip)(?![a-z])|susceptib",
    "FLAIR": r"(t2.?)?flair|dark.?fluid",
    "T1map": r"t1.?map",
    "T2map": r"t2.?map",
    "UNIT1": r"mp2rage.*uni|unit1",
    "T1w": _START + r"t1(?!\d(?!d))w?|mp.?rage|spgr|(?<![a-z])(bravo|eg.?3d|3d.?eg|(3d.?)?tfe|mdeft)(?![a-z])",
    "T2w": _START + r"t2(?!\d(?!d))w?",
    "angio": r"(?<![a-z])(tof|angio|mra|arm)(?![a-z])",
    **{name: rf"(?<![a-z]){name.lower()}(?![a-z])" for name in ("CBF", "CBV", "MTT", "Tmax")},
    "PDw": r"(?<![a-z])pdw?(?![a-z0-9])",
    "CT": r"(?<![a-z])(ct|tdm|ncct)(?![a-z0-9])",
}
"""The first that is found counts, but for T1 and T2, of which the one that is said first does."""
_CONTRAST = r"(?<![a-z])(gado\w*|gd|ce|c\+|inj\w*|post.?(gd|gado\w*|contrast\w*|inj\w*))(?![a-z])|t1(c|ce|gd)(?![a-z])"
_OTHER = (
    r"(?<![a-z])(bold|fmri|irmf|asl|pcasl|dsc|pwi|perf\w*|locali[sz]\w*|loc|scout|survey|reperage|aahead\w*|calib\w*"
    r"|asset|field.?map|fmap|m?inip|mip|phase|dti|tensor|tracto?\w*|spectro\w*|pve\w*|aseg|aparc|warp|jacobian"
    r"|screen\w*|inv[12])(?![a-z])|lesion.?fill"
)
_NOT_TAKEN = r"(?<![a-z])(sain|saine|controlat\w*|miroir|cerveau|crane|oedeme|penombre|penumbra)(?![a-z])"
_WEAK_LESION = r"stroke|(?<![a-z])avc(?![a-z0-9])|ischa?emi\w*"
_LESION = r"lesion\w*|infarct\w*|(?<![a-z])les(?![a-z])"
_BARE = r"mask\w*|masque\w*|(?<![a-z])(msk|rois?|voi|seg|segm\w*|labels?(tr|ts)?|contours?)(?![a-z])"
_OF_THE_STROKE = r"chroni\w*|aigue?s?|acute|sub\w*|manuel\w*|finale?"
_OF_THE_SCAN = re.compile(
    r"((^|(?<=[^a-z]))(irm|mri|mr|[23]d|ep2d|sag\w*|ax|axial\w*|cor\w*|tra|tse|fse|ir|gre|cube|space|iso|seq)[ .-]+)+$"
)
_CONTAINER = (
    r"images?|imgs?|anat(omi\w*)?|nifti|nii|raw|raw ?data|data|donnees|derivatives|mri|irm|scans?|output|export"
)
_IN_ENGLISH = {"avc": "stroke", "les": "lesion"}


@functools.lru_cache(maxsize=100_000)
def fold(text: str) -> str:
    """The text without accents and capitals, and of the same length."""

    def plain(letter: str) -> str:
        return (unicodedata.normalize("NFKD", letter)[0].lower() or letter)[0]

    return text.lower() if text.isascii() else "".join(map(plain, text))


@dataclass(frozen=True, eq=False)
class Named:
    """A NIfTI file by its name; each is equal to itself only.

    Attributes:
        text: its path as expressions see it.
        folders: those of the path.
        head: of the file's name, what stands before the words that say the role; all of it where there are none.
        core: those words, and what is between them.
        tail: what stands behind them.
        ending: `.nii` or `.nii.gz`, as it is written.
        role: the name of an image, "mask", one of the constants here, or "" where nothing says it.
        role_folders: the positions of folders that say nothing but a role, or nothing at all.
    """

    text: str
    folders: tuple[str, ...]
    head: str
    core: str
    tail: str
    ending: str
    role: str
    role_folders: frozenset[int] = frozenset()

    @property
    def name(self) -> str:
        return self.text.rpartition("/")[2]


def name_files(texts: Iterable[str]) -> list[Named]:
    """What each of these paths of NIfTI files says."""
    texts = list(texts)
    images = [file for file in map(_named, texts) if file.role in _IMAGES]
    people = frozenset(word for file in images for word in _words(file.head))
    return _without_masks_that_are_images([_named(text, people) for text in texts])


def _named(text: str, people: frozenset[str] = frozenset()) -> Named:
    """`people` are words that say nothing of a mask, for they stand in names of images too."""
    *folders, name = text.split("/")
    ending = next(end for end in (".nii.gz", ".nii") if name.lower().endswith(end))
    stem = name[: -len(ending)]
    role, start, end = _role_of(stem, people.union(*map(_words, folders)))
    of_folders = list(map(_role_of_folder, folders))
    by_folder = next((each for each in reversed(of_folders) if each), "")
    if not role and folders and not by_folder and not re.search(_WEAK_LESION, fold(folders[-1]).replace("_", " ")):
        by_folder = of_folders[-1] = _role_of(folders[-1])[0]
    if not role or (by_folder in (MASK, BARE_MASK) and role in _IMAGES):
        role = by_folder
    idle = {i for i, folder in enumerate(folders) if of_folders[i] or re.fullmatch(_CONTAINER, fold(folder))}
    return Named(text, tuple(folders), stem[:start], stem[start:end], stem[end:], ending, role, frozenset(idle))


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[^\W\d]+", fold(text).replace("_", " ")))


@functools.cache
def _role_of_folder(folder: str) -> str:
    """The role that a folder says that is called after it and nothing else: T1, lesions, Masques FLAIR."""
    rest = fold(folder)
    for words in (*_IMAGES.values(), _LESION, _BARE, _CONTAINER, r"3d|sag|ax\w*|cor\w*|iso|manu\w*|drawn|tr|ts"):
        rest = re.sub(words, " ", rest)
    return "" if re.search(r"[^\W\d_]", rest) else _role_of(folder)[0]


@functools.lru_cache(maxsize=100_000)
def _role_of(stem: str, people: frozenset[str] = frozenset()) -> tuple[str, int, int]:
    """The role that a name says, and where in the name the words for it begin and end; all is before none."""
    folded = fold(stem).replace("_", " ")
    images = {name: found for name, words in _IMAGES.items() if (found := re.search(words, folded))}
    strong, bare = re.search(_LESION, folded), re.search(_BARE, folded)
    weak = None if images else re.search(_WEAK_LESION, folded)
    lesion = strong or (weak if not bare else None)
    spans = [each.span() for each in (*images.values(), lesion, bare) if each]
    start, end = (min(a for a, _ in spans), max(b for _, b in spans)) if spans else (len(stem), len(stem))
    if before := _OF_THE_SCAN.search(folded[:start]):
        start = before.start()
    if re.search(_OTHER, folded):
        return OTHER, start, end
    if strong or bare or weak:
        return _mask_role(folded, people), start, end
    return (_image(images, folded) if images else ""), start, end


def _image(found: dict[str, re.Match[str]], folded: str) -> str:
    if "T1w" in found and "FLAIR" in found and re.search(r"t1.?flair", folded):
        return "T1w"
    if "T1w" in found and "T2w" in found and not set(found) - {"T1w", "T2w"}:
        return min(("T1w", "T2w"), key=lambda name: found[name].start())
    name = next(iter(found))
    return "T1ce" if name == "T1w" and re.search(_CONTRAST, folded) else name


def _mask_role(folded: str, people: frozenset[str]) -> str:
    if re.search(_NOT_TAKEN, folded):
        return OTHER
    words = [
        "mask" if re.fullmatch(_BARE, word) else _IN_ENGLISH.get(word, word)
        for word in re.findall(r"[^\W_]+", folded)
        if word.isalpha() and len(word) > 1
    ]
    words = [
        word for word in words if not re.fullmatch(_OF_THE_STROKE, word) and not (word in people and _is_harmless(word))
    ]
    if re.search(_LESION, folded):
        words.append("lesion")
    return {"lesion": MASK, "unsaid": BARE_MASK, "other": OTHER}[_meaning(words)]


def _is_harmless(word: str) -> bool:
    """Whether a word beside "lesion" leaves it one."""
    return _meaning([word, "lesion"]) == "lesion"


def _meaning(words: Iterable[str]) -> str:
    return meaning(BidsName({}, "mask", ".nii.gz", tuple(words)))


def _without_masks_that_are_images(files: Sequence[Named]) -> list[Named]:
    """A folder `lesions` with several kinds of images in it is one of patients with lesions: there names count."""
    own = {file: _role_of(file.head + file.core + file.tail)[0] for file in files if file.role in (MASK, BARE_MASK)}
    own = {file: role for file, role in own.items() if role in _IMAGES}
    kinds: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for file, role in own.items():
        kinds[_mask_folder(file)].add(role)
    images_elsewhere = any(file.role in _IMAGES for file in files)
    are_images = {file for file in own if len(kinds[_mask_folder(file)]) > 1 or not images_elsewhere}
    return [replace(file, role=own[file], role_folders=frozenset()) if file in are_images else file for file in files]


def _mask_folder(file: Named) -> tuple[str, ...]:
    """The path down to the folder that says mask."""
    inside = [i for i in sorted(file.role_folders) if re.search(f"{_LESION}|{_BARE}", fold(file.folders[i]))]
    return file.folders[: inside[0] + 1] if inside else ()
