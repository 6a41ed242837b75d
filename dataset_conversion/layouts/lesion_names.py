"""What a mask is of, by its name: a lesion, something else, or its name does not say.

Structures have any names (thalamus, V1d, CST), so a word that is not known to mean nothing here means something else: a
mask that is left out is named in the account, one that is taken by mistake would be trained on.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Literal

from dataset_conversion.layouts.entities import BidsName
from dataset_conversion.layouts.named_files import image_name

Meaning = Literal["lesion", "other", "unsaid"]

MASK_SUFFIXES = ("mask", "msk", "seg", "roi", "lesion")
SEGMENTATION_SUFFIXES = ("dseg", "probseg")
"""Of tissue, in BIDS; of lesions where the name, the sidecar or the user says so."""

_LESION = re.compile(r"lesion|stroke|infarct|ischa?emi")
# Words are in lower case here, and "-" stands between them: brain-no-lesion for brainNoLesion.
_NOT_THE_LESION = re.compile(
    r"(^|-)w-?m(-?lesion|-|$)|(^|-)(no|non|not|un|without|sans|minus|outside|free|healthy|normal|hemi)(-|$)|hemispher"
    r"|(no|non|peri|contra|ipsi|para|extra|anti|pseudo)-?(lesion|stroke|infarct|ischa?emi)"
    r"|(^|-)(not|un|without|sans|sin|senza|ohne|pre|ex|excl(ude[ds]?|uding|usion)?|inv(ersed?|erted)?|complement"
    r"|healthy|normal|control|around|autour|near|outside|hors|dilated|eroded|bbox|bounding-?box)"
    r"-?(lesion|stroke|infarct|ischa?emi)"
    r"|(lesion|stroke|infarct)(s|al|ed)?-?(free|less|inv(ersed?|erted)?|complement|exclu(ded|sion)|control|side"
    r"|b(order|box)|edge|rim|ring|halo|shell|margin|contour|surround(ing)?|dilat(ed|ion)|eroded|cent(er|re|roid)"
    r"|skeleton|uncertain(ty)?|error|diff(erence)?|weights?)(-|$)"
    r"|brain|skull|head|scalp|bone|face|tissue|ventric|aseg|aparc|vessel|white|gr[ae]y|matter|bleed|hippo|atlas|tract"
    r"|struct|parcel|network|connect|territor|fill|mirror|flip|overlap|distance|heatmap|edema|wmh|cmb|csf|template"
)
_OF_THE_IMAGE = re.compile(r"brain|head|skull(strip(ped)?)?")  # label-lesion_desc-brain: on the extracted brain
_SAYS_NOTHING = re.compile(
    r"mask|msk|seg(mentation)?|roi|label|rater|reader|observer|expert|manual|auto(matic)?|consensus|final|orig(inal)?"
    r"|native|bin(ary|ari[sz]ed)?|corrected|checked|edited|drawn|resampled|registered|reg|preproc|smooth(ed)?|v|\d+"
)
_SIDES = {"r", "left", "right"}  # where a mask lies, not what it is of; L is BIDS' lesion
_ABOUT_THE_SCAN = {
    *("sub", "ses", "run", "acq", "space", "rec", "ce", "task", "echo", "dir", "part", "res", "den", "mod", "sample"),
    *("rater", "from", "to"),
}


def meaning(name: BidsName, lesion_names: Collection[str] = ()) -> Meaning:
    """What the name of a mask says it is of.

    `label` says it where there is one (`L` is BIDS' lesion); else `desc`, words without a key and other keys do.

    Args:
        name: a parsed file name.
        lesion_names: further words for lesions, any capitals. They count more than words of another meaning; a suffix
            (roi) counts where nothing else in the name means something.
    """
    asked = {word.lower() for word in lesion_names}
    said = dict(_said(name))
    is_side = said.get("label", "").lower() in _SIDES
    if is_side:
        del said["label"]
    if asked & {*_words(" ".join(said.values())), *map(str.lower, said.values())}:
        return "lesion"
    label = said.get("label", "").lower()
    labelled = label == "l" or bool(_LESION.search(label))
    others = [text for key, text in said.items() if not (labelled and key == "label" and label == "l")]
    if labelled:
        others = [text for text in others if not _OF_THE_IMAGE.fullmatch(text.lower())]
    words = [word for text in (*others, name.suffix) for word in _words(text)]
    text = "-".join(words)
    if labelled or (not label and _LESION.search(text)):
        glued = "-".join((*others, name.suffix)).lower()  # CSFlesion is cut into CS and Flesion
        return "other" if _NOT_THE_LESION.search(text) or _NOT_THE_LESION.search(glued) else "lesion"
    about_scan = "-".join(_words(name.entities.get("acq", "")))
    if _NOT_THE_LESION.search(about_scan):
        return "other"
    texts = [part for text in said.values() for part in text.split()]
    if not all(_says_nothing(part) for part in texts):
        return "other"
    return "lesion" if name.suffix.lower() in asked else "other" if is_side else "unsaid"


def word_for(name: BidsName) -> str:
    """The word by which a user can ask for such masks; the suffix where the name does not say what they are of."""
    said = dict(_said(name))
    texts = [said.get("label", ""), said.get("desc", ""), *(word for text in said.values() for word in text.split())]
    return next((text for text in texts if text and not _says_nothing(text)), name.suffix)


def _said(name: BidsName) -> Iterator[tuple[str, str]]:
    """(key, text) of what a name says besides subject, session and how the image was made."""
    for key, value in name.entities.items():
        if key not in _ABOUT_THE_SCAN:
            yield key, value if key in ("label", "desc") else f"{key} {value}"
    if name.words:
        yield "", " ".join(name.words)


def _words(text: str) -> list[str]:
    """`brainNoLesion` → brain, no, lesion; `T1lesion` → t, 1, lesion."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", text)]


def _says_nothing(text: str) -> bool:
    return bool(image_name(text)) or all(_SAYS_NOTHING.fullmatch(word) for word in _words(text))
