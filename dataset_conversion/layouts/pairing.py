"""From files with BIDS names to cases: one image of each kind and one mask per subject and session, or why not.

What the names of a family of data sets mean (ATLAS, generic BIDS) is a `Convention`; all else is the same for each.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from dataset_conversion.errors import stop
from dataset_conversion.layouts import entities as bids
from dataset_conversion.layouts import metadata as release
from dataset_conversion.layouts.entities import BidsName
from dataset_conversion.layouts.layout import Scan
from dataset_conversion.layouts.lesion_names import word_for
from dataset_conversion.layouts.metadata import Metadata
from dataset_conversion.layouts.named_files import IMAGE_NAMES, NamedFile, choose, in_space, known, options
from dataset_conversion.layouts.source import list_files, no_cases
from dataset_conversion.tables.case_table import Case, Split, case_name, plain_name
from nnunet_transformers.common.problems import Finding
from nnunet_transformers.common.words import counted, joined, some

MASK = "mask"
POSSIBLE_MASK = "possible mask"
"""A mask whose name does not say what it is of: taken where no name of the folder says lesion."""
SEGMENTATION = "segmentation"
"""One that is of lesions only if its sidecar says so."""
NOT_USED = "not used"
NO_ROLE = "no role"
"""An image of a subject whose name does not say what it shows."""
_CHANNEL_ORDER = ("T1w", "FLAIR")
_INSIDE_A_PART = re.compile(r"derivatives|R\d{3}|SOOP|sub-.*|ses-.*|anat", re.IGNORECASE)
_BESIDE_A_PART = re.compile(r"(atlas|isles)?r?[\d.]*|raw|preprocessed|set|images?|masks?")
_OTHER_DATA = {"func", "dwi", "fmap", "perf", "pet", "meg", "eeg", "ieeg", "nirs", "micr", "mrs", "sourcedata"}
_PART_WORDS = re.compile(r"train(ing)?|test(ing)?", re.IGNORECASE)


@dataclass(frozen=True)
class Convention:
    """What the names of one family of data sets mean.

    Attributes:
        kind: the family, for messages.
        expected: what its folders look like, for the error of a folder without cases.
        mask_example: the end of a mask's name, for the error of a missing one.
        role: the name of an image, MASK, POSSIBLE_MASK, SEGMENTATION, NOT_USED (shown where something is missing) or ""
            for a name.
        site: the site that folder and subject (without `sub-`) tell; "" where they do not.
        images: the images that a case has even where no file is found.
        unlabelled: the part of a case without a mask of which nothing else says the part.
        source_says_part: whether the folder given may be the part Training or Testing of a release.
        one_release: whether all images, and all masks, of a case must come from one folder of subjects.
    """

    kind: str
    expected: str
    mask_example: str
    role: Callable[[BidsName], str]
    site: Callable[[PurePosixPath, str], str]
    images: tuple[str, ...]
    unlabelled: Split
    source_says_part: bool
    one_release: bool


def find_cases(source: Path, convention: Convention, entities: Mapping[str, str]) -> Scan:
    """Find the cases of a folder.

    Args:
        source: the folder.
        convention: what the file names mean.
        entities: which files to take where a case has several, `{"space": "orig"}`; see `named_files.choose`.

    Raises:
        ConversionError: NO_SOURCE; NO_CASES; UNKNOWN_ENTITY where no file has what `entities` asks for.
    """
    paths, unreadable = list_files(source, convention.expected)
    files, others, findings = _named_files(paths, convention)
    files, presumed = _with_masks_decided(files, source)
    findings += _presumed(presumed)
    has_image = any(_is_image(file) and file.name.is_nifti for file in files)
    if not has_image and not (convention.images and any(_is_image(file) or file.role == MASK for file in files)):
        raise no_cases(source, paths, convention.kind, convention.expected, [*unreadable, *findings])
    wanted = {key.lower(): value for key, value in entities.items()}
    _check_entities(files, wanted)
    files = [file for file in files if _of_wanted_person(file, wanted)]
    metadata = release.read(source, paths).of_subjects({f"sub-{_subject(file)}" for file in files})
    tree = _Tree(source, convention, wanted, files, others, metadata)
    found = [one for subject, session in sorted(tree.files_of) if (one := tree.case(subject, session))]
    if not wanted.keys() & _PERSON.keys():
        unused = set(paths) - {file.path for file in files}
        found += _without_case(sorted(unused), {plain_name(one.case.subject) for one in found}, tree.image_names)
        found.sort(key=lambda one: (one.case.subject, one.case.session))
    cases = tuple(one.case for one in found)
    findings = [
        *unreadable,
        *findings,
        *(finding for one in found for finding in one.findings),
        *_unlabelled([one for one in found if one.unlabelled]),
        *_stated_parts(found),
        *tree.parts_by_folder(found),
        *_mixed_images(found),
        *tree.metadata.findings,
        *release.review(tree.metadata, cases),
    ]
    return Scan(cases, tuple(findings))


@dataclass(frozen=True)
class _Found:
    """A case, what is wrong with it, the files chosen for it, and whether it is in the test part for want of a mask.

    Attributes:
        not_used: masks that are not the lesion's, by their names.
        others: other files of the case without use, whose names do not say what they are.
        stated: the part that the metadata say.
        by_folder: the part that a folder says.
    """

    case: Case
    findings: tuple[Finding, ...]
    images: Mapping[str, NamedFile]
    unlabelled: bool
    not_used: tuple[NamedFile, ...] = ()
    others: tuple[NamedFile, ...] = ()
    stated: str = ""
    by_folder: str = ""


class _Tree:
    """The files of a source by subject and session, and how to make a case of each."""

    def __init__(
        self,
        source: Path,
        convention: Convention,
        entities: Mapping[str, str],
        files: Sequence[NamedFile],
        others: Sequence[NamedFile],
        metadata: Metadata,
    ) -> None:
        self.convention = convention
        self.entities = entities
        self.metadata = metadata
        self.part_of_source = _part_of_source(source) if convention.source_says_part else None
        self.files_of: dict[tuple[str, str], list[NamedFile]] = defaultdict(list)
        self.files_with: dict[str, list[NamedFile]] = defaultdict(list)
        for file in files:
            self.files_of[_subject(file), _session(file)].append(file)
            self.files_with[file.role].append(file)
        self.others_of: dict[tuple[str, str], list[NamedFile]] = defaultdict(list)
        for file in others:
            self.others_of[_subject(file), _session(file)].append(file)
        found = {file.role for file in files if _is_image(file) and file.name.is_nifti}
        self.image_names = sorted(found | set(convention.images), key=_channel)
        # A folder of all images tells none of them from the others: data sets lie in test/ for many reasons.
        self.folders_say_parts = (
            convention.source_says_part or len({_part_by_folder(file) for file in files if _is_image(file)}) > 1
        )

    def case(self, subject: str, session: str) -> _Found | None:
        """The case of a subject and session; None where it has masks of something else than a lesion only."""
        files = self.files_of[subject, session]
        if not any(_is_image(file) or file.role == MASK for file in files):
            return None
        candidates = {name: self._candidates(files, name) for name in self.image_names}
        masks = self._candidates(files, MASK)
        images = _in_the_masks_space(candidates, masks)
        name = case_name(f"sub-{subject}", session)
        told = self.metadata.of(f"sub-{subject}", session)
        every_image = [file for found in candidates.values() for file in found]
        by_folder = {part for file in every_image + masks or files if (part := _part_by_folder(file))}
        by_folder = by_folder if self.folders_say_parts else set()
        stated = part_of([told.get("split", "")])
        parts = by_folder | ({stated} if stated else set())
        # A mask that was not asked for, or is in a form that is not read, is missing: the case is not unlabelled.
        labelled = masks or any(file.role == MASK and file.name.extension != ".json" for file in files)
        by_default = self.part_of_source or ("train" if labelled else self.convention.unlabelled)
        split = next(iter(parts)) if len(parts) == 1 else by_default
        chosen = {role: found[0] for role, found in images.items() if len(found) == 1}
        others = self.others_of[subject, session] + (self.others_of[subject, ""] if session else [])
        report = _Report(name, [*files, *others])
        report.misplaced([*every_image, *masks])
        if self.convention.one_release and _several_releases(candidates, masks):
            report.mixed_releases([*every_image, *masks], self.convention.kind)
        else:
            if len(parts) > 1:
                report.split_conflict([file for found in images.values() for file in found] + masks)
            report.ambiguous({**images, MASK: masks})
            report.mismatched(candidates, images, masks)
        if not every_image:
            report.no_image(masks, self.image_names, self.entities)
        elif not masks and split == "train":
            report.no_mask(every_image, self.convention.mask_example, self.entities)
        case = Case(
            case=name,
            subject=f"sub-{subject}",
            session=session,
            site=release.site(told) or self.convention.site(files[0].path, subject),
            split=split,
            images={role: str(chosen[role].path) if role in chosen else "" for role in self.image_names},
            masks=(str(masks[0].path),) if len(masks) == 1 else (),
            metadata=release.for_table(told),
        )
        unlabelled = not masks and not parts and not self.part_of_source and split == "test"
        not_used = tuple(file for file in files if file.role == NOT_USED and file.name.extension != ".json")
        return _Found(
            case,
            tuple(report.findings),
            chosen,
            unlabelled,
            not_used,
            tuple(others),
            stated or "",
            next(iter(by_folder)) if len(by_folder) == 1 else "",
        )

    def parts_by_folder(self, found: Sequence[_Found]) -> list[Finding]:
        """Said where a convention does not know folders of parts: somebody's test cases stay that."""
        if self.convention.source_says_part:
            return []
        parts = _counts(one.by_folder for one in found)
        problem = f"folders called train or test say which cases are for what: {parts}"
        remedy = "Rename the folders if that is not meant."
        return [Finding("SPLIT_FOLDERS", problem, remedy, severity="warning")] if parts else []

    def _candidates(self, files: Sequence[NamedFile], role: str) -> list[NamedFile]:
        own = [file for file in files if file.role == role]
        chosen = choose([file for file in own if file.name.is_nifti], self.entities, self.files_with[role])
        if chosen or role != MASK:
            return chosen
        return choose([file for file in own if file.name.is_mask_form], self.entities, self.files_with[role])


class _Report:
    """Collects what is wrong with one case; `files` are all of it, used or not."""

    def __init__(self, case: str, files: Sequence[NamedFile]) -> None:
        self.case = case
        self.files = files
        self.findings: list[Finding] = []

    def misplaced(self, used: Iterable[NamedFile]) -> None:
        for file in used:
            for key, own in _PERSON.items():
                folder = _folder_value(file.path, key)
                if folder and folder.lower() != own(file).lower():
                    problem = f"the name says {key}-{own(file)}, the folder {key}-{folder}"
                    self._add("WRONG_FOLDER", problem, "Rename the one that is wrong", [file])

    def mixed_releases(self, files: Sequence[NamedFile], kind: str) -> None:
        folders = ", ".join(sorted({str(_folder_of_subjects(file.path)) for file in files}))
        problem = f"the same subject and session in several releases or copies ({folders})"
        self._add("MIXED_RELEASES", problem, f"Give the folder of one {kind} release only", files)

    def split_conflict(self, files: Sequence[NamedFile]) -> None:
        problem = "both in the training and in the test part"
        self._add("SPLIT_CONFLICT", problem, "Keep it in one of them", files)

    def ambiguous(self, candidates: Mapping[str, Sequence[NamedFile]]) -> None:
        for role, files in candidates.items():
            if len(files) > 1:
                code, what = ("AMBIGUOUS_MASK", "mask") if role == MASK else ("AMBIGUOUS_IMAGE", f"{role} image")
                entities = options(files)
                remedy = f"Choose with {' or '.join(entities)}" if entities else "Leave one of them in the folder"
                self._add(code, f"{len(files)} files could be the {what}", remedy, files)

    def mismatched(
        self,
        candidates: Mapping[str, Sequence[NamedFile]],
        images: Mapping[str, Sequence[NamedFile]],
        masks: Sequence[NamedFile],
    ) -> None:
        """Images in another space than the mask or than each other, or a mask of a run that no image is of.

        An image elsewhere than the mask is as good as missing; where another is with the mask, that is a warning.
        """
        remedy = "Add the file that belongs to the other"
        elsewhere = [file for role in images if not images[role] for file in candidates[role]]
        single = [found[0] for found in images.values() if len(found) == 1]
        if elsewhere:
            spaces = ", ".join(sorted({f"{file.role} in space {file.value('space')}" for file in elsewhere}))
            problem = f"the mask is in space {masks[0].value('space')}, but {spaces}"
            shown = [*elsewhere, *masks]
            self._add("PAIR_MISMATCH", problem, remedy, shown, severity="warning" if single else "error")
        elif len({file.frame for file in single}) > 1:
            spaces = ", ".join(f"{file.role} in space {file.value('space')}" for file in single)
            self._add("PAIR_MISMATCH", f"images in different spaces: {spaces}", remedy, single)
        runs = {run for file in single if (run := file.value("run"))}
        if len(masks) == 1 and runs and masks[0].value("run") and masks[0].value("run") not in runs:
            problem = f"the mask is of run {masks[0].value('run')}, the images are of run {', '.join(sorted(runs))}"
            self._add("PAIR_MISMATCH", problem, remedy, [*single, *masks])

    def no_image(self, masks: Sequence[NamedFile], names: Sequence[str], entities: Mapping[str, str]) -> None:
        problem = f"{'a lesion mask without its' if masks else 'no'} {' or '.join(names) or 'image'}{_with(entities)}"
        problem += "" if masks else " as .nii.gz or .nii"
        self._add("MISSING_IMAGE", problem, "Add the image as .nii.gz or .nii", masks, self._not_used(masks))

    def no_mask(self, images: Sequence[NamedFile], example: str, entities: Mapping[str, str]) -> None:
        problem = f"a training image without its lesion mask{_with(entities)}"
        remedy = f"Add the mask ({example}), move the case to a folder called Testing"
        not_used = self._not_used(images)
        if words := _asking_for(not_used):
            remedy += f", say what in the name means a lesion ({words})"
        elif any(file.role == NO_ROLE for file in not_used):
            remedy += f", say a word of its name ({_ASKING})"
        self._add("MISSING_MASK", problem, remedy, images, not_used)

    def _not_used(self, used: Sequence[NamedFile]) -> list[NamedFile]:
        return [file for file in self.files if file not in used and file.name.extension != ".json"]

    def _add(
        self,
        code: str,
        problem: str,
        remedy: str,
        files: Iterable[NamedFile],
        unused: Iterable[NamedFile] = (),
        severity: Literal["error", "warning"] = "error",
    ) -> None:
        shown = [(file.role, str(file.path)) for file in files]
        shown += [(NOT_USED, str(file.path)) for file in unused]
        remedy = f"{remedy}, or exclude the case (--exclude {self.case})."
        self.findings.append(Finding(code, problem, remedy, self.case, tuple(shown), severity))


def part_of(folders: Iterable[str]) -> Split | None:
    """Which part the innermost folder that says so belongs to.

    `Training_Raw` and `Test_Set_ATLAS_2.1` say so, `stroke_test` and `test-retest` do not.
    """
    for folder in reversed(list(folders)):
        words = set(re.split(r"[^a-z0-9.]+", folder.lower()))
        parts: list[Split] = []
        if words & {"training", "train"}:
            parts.append("train")
        if words & {"testing", "test"}:
            parts.append("test")
        others = words - {"training", "train", "testing", "test"}
        if len(parts) == 1 and all(_BESIDE_A_PART.fullmatch(word) for word in others):
            return parts[0]
    return None


def _part_by_folder(file: NamedFile) -> Split | None:
    return part_of(file.path.parts[:-1])


def _named_files(
    paths: Sequence[PurePosixPath], convention: Convention
) -> tuple[list[NamedFile], list[NamedFile], list[Finding]]:
    """The files that have a role, those of subjects that have none, and one warning for names that say nothing."""
    files, others, strange = [], [], []
    for path in paths:
        name = bids.parse(path.name)
        role = convention.role(name) if name and "sub" in name.entities else ""
        if name and role:
            files.append(NamedFile(path, name, role))
            continue
        if not _is_anatomical(path):
            continue
        understood = _is_understood(name)
        if name and understood:
            others.append(NamedFile(path, name, NO_ROLE))
        elif _named_after_subject(path.parts):
            strange.append(path)
            if subject := _folder_value(path, "sub"):
                others.append(NamedFile(path, BidsName({"sub": subject}, "", path.suffix), NO_ROLE))
    if not strange:
        return files, others, []
    problem = f"{len(strange)} NIfTI files are not used, for their names are not sub-…_key-value_…_suffix"
    remedy = "Rename them if they are needed: letters and digits, with - after a key and _ between the parts."
    shown = tuple((NOT_USED, str(path)) for path in strange)
    return files, others, [Finding("NAME_NOT_BIDS", problem, remedy, files=shown, severity="warning")]


def _with_masks_decided(files: Sequence[NamedFile], source: Path) -> tuple[list[NamedFile], list[NamedFile]]:
    """The files with MASK or NOT_USED as the role of each mask, and those that are taken though no name says lesion.

    What a name does not say its sidecar may. A mask of which nothing says anything is the lesion's where nothing else
    in the folder is: with one that is, it would be of something else. Where there are masks as NIfTI, those decide.
    """
    said = [replace(file, role=_role_by_sidecar(file, source)) for file in files]
    masks = [file for file in said if file.role in (MASK, POSSIBLE_MASK)]
    readable = [file for file in masks if file.name.is_nifti] or [file for file in masks if file.name.is_mask_form]
    if any(file.role == MASK for file in readable):
        return [_as(NOT_USED, file) if file.role == POSSIBLE_MASK else file for file in said], []
    with_nifti = {(_subject(file), _session(file)) for file in masks if file.name.is_nifti}
    taken = [
        file
        for file in masks
        if file.role == POSSIBLE_MASK
        and (file.name.is_nifti or (file.name.is_mask_form and (_subject(file), _session(file)) not in with_nifti))
    ]
    return [_as(MASK, file) if file.role == POSSIBLE_MASK else file for file in said], taken


def _as(role: str, file: NamedFile) -> NamedFile:
    return replace(file, role=role)


def _role_by_sidecar(file: NamedFile, source: Path) -> str:
    """The role with what a sidecar's `Type` (BIDS: Lesion, Brain, Face, ROI) says of a mask whose name says nothing."""
    if file.role not in (POSSIBLE_MASK, SEGMENTATION) or file.name.extension == ".json":
        return NOT_USED if file.role == SEGMENTATION else file.role
    sidecar = source / file.path.with_name(f"{file.path.name.partition('.')[0]}.json")
    try:
        content = json.loads(sidecar.read_bytes()) if sidecar.is_file() else {}
        kind = str(content.get("Type", "")).strip().lower()
    except (OSError, ValueError, AttributeError):
        kind = ""
    if kind == "lesion":
        return MASK
    return NOT_USED if file.role == SEGMENTATION or kind not in ("", "roi") else file.role


def _presumed(masks: Sequence[NamedFile]) -> list[Finding]:
    """Said of `_mask` and `_roi`; `_seg` is what the tools write that this layout knows."""
    masks = [mask for mask in masks if mask.name.suffix.lower() != "seg"]
    if not masks:
        return []
    problem = (
        f"{counted(len(masks), 'mask')} taken for the lesion's, though no name says so, such as {masks[0].path.name}"
    )
    remedy = f"Look at some. {_asking_for(masks)} takes them without this warning."
    shown = tuple((MASK, str(mask.path)) for mask in masks)
    return [Finding("PRESUMED_MASK", problem, remedy, files=shown, severity="warning")]


_ASKING = "--lesion-names WORD"


def _asking_for(files: Iterable[NamedFile]) -> str:
    """The option that takes these masks for the lesion's, or those of one word; empty where there is none."""
    words = sorted({word_for(file.name) for file in files if file.role in (NOT_USED, POSSIBLE_MASK)})
    return f"--lesion-names {' or '.join(words)}" if words else ""


def _without_case(
    unused: Iterable[PurePosixPath], known_subjects: Collection[str], image_names: Sequence[str]
) -> list[_Found]:
    """An error for each subject of whom there is no case, although the subject's folder has what may be its images."""
    files_of: dict[str, list[PurePosixPath]] = defaultdict(list)
    for path in unused:
        folder = _named_after_subject(path.parts[:-1])
        subject, _, _ = plain_name(folder).partition("_")  # sub-01_ses-1 is a folder of sub-01
        if not subject or subject in known_subjects or not _is_anatomical(path):
            continue
        is_raw = "anat" in path.parts and "derivatives" not in path.parts
        if is_raw or not _is_understood(bids.parse(path.name)):
            files_of[folder].append(path)
    found = []
    for subject, files in files_of.items():
        problem = f"no {' or '.join(image_names) or 'image'}: the names of its NIfTI files do not say what they are"
        remedy = f"Call them {subject}_…_T1w.nii.gz and so on, or exclude the subject (--exclude {subject})."
        shown = tuple((NOT_USED, str(path)) for path in files[:3])
        case = Case(subject, subject, images=dict.fromkeys(image_names, ""))
        found.append(_Found(case, (Finding("MISSING_IMAGE", problem, remedy, subject, shown),), {}, False))
    return found


def _is_understood(name: BidsName | None) -> bool:
    return name is not None and "sub" in name.entities and not name.words


def _is_anatomical(path: PurePosixPath) -> bool:
    """NIfTI, and not in a folder of other data than images of the head as such."""
    return path.name.lower().endswith((".nii", ".nii.gz")) and not _OTHER_DATA & {part.lower() for part in path.parts}


def _named_after_subject(parts: Sequence[str]) -> str:
    return next((part for part in reversed(parts) if part.lower().startswith("sub-")), "")


def _check_entities(files: Sequence[NamedFile], entities: Mapping[str, str]) -> None:
    for key, value in entities.items():
        own = _PERSON.get(key)
        if not (any(own(file).lower() == value.lower() for file in files) if own else known(files, key, value)):
            there = sorted({own(file) if own else file.value(key) for file in files} - {""})
            listed = f"There is: {', '.join(f'{key}-{one}' for one in there)}." if there else f"No name has {key}-."
            raise stop("UNKNOWN_ENTITY", f"no image or mask has {key}-{value} in its name", listed)


def _of_wanted_person(file: NamedFile, entities: Mapping[str, str]) -> bool:
    """Whether the file is of the subject and session asked for; other entities choose among the files of a case."""
    return all(own(file).lower() == entities[key].lower() for key, own in _PERSON.items() if key in entities)


def _in_the_masks_space(
    candidates: Mapping[str, Sequence[NamedFile]], masks: Sequence[NamedFile]
) -> dict[str, list[NamedFile]]:
    """The images in the space of the masks; all of them where there is no mask or the masks are in several spaces."""
    if len({mask.frame for mask in masks}) != 1:
        return {role: list(files) for role, files in candidates.items()}
    return {role: in_space(files, masks[0].value("space")) for role, files in candidates.items()}


def _several_releases(candidates: Mapping[str, Sequence[NamedFile]], masks: Sequence[NamedFile]) -> bool:
    """Whether files of one role lie in folders of subjects that are not just the parts of one release."""
    return any(
        len({_PART_WORDS.sub("", str(_folder_of_subjects(file.path))) for file in files}) > 1
        for files in (*candidates.values(), masks)
    )


def _folder_of_subjects(path: PurePosixPath) -> PurePosixPath:
    """`ATLAS_2/Training` for `ATLAS_2/Training/R001/sub-r001s001/ses-1/anat/x.nii.gz`."""
    folders = list(path.parts[:-1])
    subjects = [i for i, folder in enumerate(folders) if folder.lower().startswith("sub-")]
    folders = folders[: subjects[0]] if subjects else folders
    while folders and re.fullmatch(r"R\d{3}|SOOP", folders[-1], re.IGNORECASE):
        folders.pop()
    return PurePosixPath(*folders)


def _part_of_source(source: Path) -> Split | None:
    """The part that the given folder itself belongs to, as `…/Testing/R003` or `…/test/derivatives/ATLAS` do."""
    folders = list(source.resolve().parts)
    while folders and (_INSIDE_A_PART.fullmatch(folders[-1]) or folders[-2:] == ["derivatives", "ATLAS"]):
        folders.pop()
    return part_of(folders[-1:])


def _unlabelled(found: Sequence[_Found]) -> list[Finding]:
    if not found:
        return []
    names = some([one.case.case for one in found])
    problem = f"{len(found)} cases have no lesion mask and go to the test images ({names})"
    remedy = "Add the masks, or exclude the cases, if that is not meant."
    not_used = [file for one in found for file in one.not_used]
    others = [file for one in found for file in one.others]
    if not_used:
        files = some([file.path.name for file in not_used])
        problem += f"; {counted(len(not_used), 'mask')} of something else by the name, not used: {files}"
        remedy += f" If one of these words means a lesion: {_asking_for(not_used)}."
    if others:
        problem += f"; {counted(len(others), 'file')} of unknown use: {some([file.path.name for file in others])}"
        remedy += f" If one of them is a lesion mask, say a word of its name ({_ASKING})."
    shown = [(NOT_USED, str(file.path)) for file in (*not_used, *others)]
    shown += [("no mask", path) for one in found for path in one.case.images.values() if path]
    return [Finding("UNLABELLED", problem, remedy, files=tuple(shown), severity="warning")]


def _stated_parts(found: Sequence[_Found]) -> list[Finding]:
    """Nobody asked for the column, so it is said that it decides."""
    parts = _counts(one.stated for one in found)
    problem = f"the column split of the metadata says which cases are for what: {parts}"
    remedy = "Rename the column if it means something else; a case table (scan, edit, convert --table) says it too."
    return [Finding("SPLIT_COLUMN", problem, remedy, severity="warning")] if parts else []


def _counts(parts: Iterable[str]) -> str:
    """ "12 for train and 3 for test"."""
    counts = Counter(filter(None, parts))
    return joined([f"{count} for {part}" for part, count in sorted(counts.items(), reverse=True)])


def _mixed_images(found: Sequence[_Found]) -> list[Finding]:
    """One warning per image that is in template space in some cases and native in others, or stripped in some."""
    warnings = []
    for role in dict.fromkeys(role for one in found for role in one.images):
        cases_of: dict[str, list[str]] = defaultdict(list)
        for one in found:
            if role in one.images:
                file = one.images[role]
                desc = file.value("desc")
                cases_of[f"space-{file.frame}" + (f"_desc-{desc}" if desc else "")].append(one.case.case)
        if len(cases_of) > 1:
            kinds = ", ".join(f"{len(cases)} {kind} (such as {cases[0]})" for kind, cases in sorted(cases_of.items()))
            remedy = "Choose one kind with --entity, unless they are meant to be trained together."
            problem = f"the {role} images are of several kinds: {kinds}"
            shown = tuple((kind, case) for kind, cases in sorted(cases_of.items()) for case in cases)
            warnings.append(Finding("MIXED_IMAGES", problem, remedy, files=shown, severity="warning"))
    return warnings


def _with(entities: Mapping[str, str]) -> str:
    return f" (asked for: {', '.join(f'{key}-{value}' for key, value in entities.items())})" if entities else ""


def _is_image(file: NamedFile) -> bool:
    return file.role in IMAGE_NAMES


def _subject(file: NamedFile) -> str:
    return file.name.entities["sub"]


def _session(file: NamedFile) -> str:
    return file.name.entities.get("ses") or _folder_value(file.path, "ses")


_PERSON: dict[str, Callable[[NamedFile], str]] = {"sub": _subject, "ses": _session}


def _folder_value(path: PurePosixPath, key: str) -> str:
    """`r001s001` for the key `sub` where the innermost such folder is `sub-r001s001`."""
    pattern = re.compile(rf"{key}-([A-Za-z0-9+-]+)", re.IGNORECASE)
    return next((match[1] for part in reversed(path.parts[:-1]) if (match := pattern.fullmatch(part))), "")


def _channel(name: str) -> tuple[int, str]:
    return (_CHANNEL_ORDER.index(name) if name in _CHANNEL_ORDER else len(_CHANNEL_ORDER), name)
