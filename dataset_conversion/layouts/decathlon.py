"""Tasks of the Medical Segmentation Decathlon (Antonelli et al., Nature Communications 2022), by their dataset.json.

    Task01_BrainTumour/dataset.json                    which images are for training and for test, with which labels
                       imagesTr/BRATS_001.nii.gz       all modalities in one file (x, y, z, modality)
                       labelsTr/BRATS_001.nii.gz
                       imagesTs/BRATS_485.nii.gz

Each modality is a channel, in the table `imagesTr/BRATS_001.nii.gz#2` for the third; a single one is a 3D file.
A file's name is that of the case and of the subject.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dataset_conversion.errors import ConversionError, stop
from dataset_conversion.layouts.layout import Layout, Scan
from dataset_conversion.layouts.named_files import image_name
from dataset_conversion.layouts.source import list_files, no_cases
from dataset_conversion.tables.case_table import NAME_REMEDY, Case, Split, is_case_name, is_own_column
from nnunet_transformers.common.problems import Finding
from nnunet_transformers.common.volumes.names import is_nifti
from nnunet_transformers.common.words import counted

EXPECTED = "Give the folder of one task, such as Task01_BrainTumour, with its dataset.json, imagesTr and labelsTr."
_FILE = "dataset.json"
_FOLDERS = ("imagesTr", "labelsTr", "imagesTs")


def find(source: Path) -> Scan:
    """Find the cases of a task.

    Raises:
        ConversionError: NO_SOURCE; NO_CASES where there is no dataset.json; DATASET_JSON where it does not say what the
            images are.
    """
    paths, findings = list_files(source, EXPECTED)
    if PurePosixPath(_FILE) not in paths:
        raise no_cases(source, paths, "Decathlon", EXPECTED, findings)
    content = _read(source / _FILE)
    channels, label_names = _channels(content), _label_names(content)
    listed = [*_listed(content, "train"), *_listed(content, "test")]
    if not listed:
        raise _unclear("lists no case: neither training nor test")
    there = {str(path) for path in paths}
    cases = []
    for each in listed:
        findings += _problems(each, there)
        cases.append(_case(each, channels, there, label_names))
    findings += _not_listed(paths, {path for each in listed for path in (each.image, each.label)})
    return Scan(tuple(sorted(cases, key=lambda case: case.case)), tuple(findings))


class _Listed(NamedTuple):
    """An entry of dataset.json; `label` is empty where it has none."""

    split: Split
    image: str
    label: str

    @property
    def name(self) -> str:
        return re.sub(r"\.nii(\.gz)?$", "", PurePosixPath(self.image).name, flags=re.IGNORECASE)


def _unclear(problem: str) -> ConversionError:
    remedy = "Get it again, or describe the folder by a layout file or a case table (convert folder)."
    return stop("DATASET_JSON", f"{_FILE} {problem}", remedy)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _unclear(f"cannot be read ({error})") from None
    if not isinstance(content, dict):
        raise _unclear("does not consist of named entries")
    return content


def _channels(content: Mapping[str, Any]) -> list[str]:
    """What the images of a case are called, in the order of the volumes."""
    named = content.get("modality") or content.get("channel_names")
    if isinstance(named, list):
        named = {str(number): text for number, text in enumerate(named)}
    if not isinstance(named, dict) or not named:
        raise _unclear("does not say what the images show (modality, or channel_names)")
    if set(named) != {str(number) for number in range(len(named))}:
        raise _unclear(f"numbers the images {', '.join(named)}, not from 0 on")
    channels: list[str] = []
    for number in range(len(named)):
        text = str(named[str(number)]).strip()
        name = image_name(text) or re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_-")
        taken = is_own_column(name) or name.casefold() in (other.casefold() for other in channels)
        channels.append(name if name[:1].isalpha() and not taken else f"image_{number}")
    return channels


def _label_names(content: Mapping[str, Any]) -> tuple[tuple[float, str], ...]:
    """(value, name) of what labels show; nnU-Net's own dataset.json has them the other way round."""
    labels = content.get("labels")
    names = []
    for key, value in labels.items() if isinstance(labels, dict) else ():
        for number, name in ((key, value), (value, key)):
            if re.fullmatch("[0-9]+", str(number)):
                names.append((float(number), str(name)))
                break
    return tuple(names)


def _listed(content: Mapping[str, Any], split: Split) -> list[_Listed]:
    part = "training" if split == "train" else "test"
    entries = content.get(part) or []
    if not isinstance(entries, list):
        raise _unclear(f"has something else than a list under {part}")
    found = []
    for entry in entries:
        pair = entry if isinstance(entry, dict) else {"image": entry}
        image, label = pair.get("image"), pair.get("label") or ""
        if not (isinstance(image, str) and isinstance(label, str)):
            raise _unclear(f"has an entry under {part} that is not the path of an image and a label: {entry}")
        found.append(_Listed(split, str(PurePosixPath(image)), str(PurePosixPath(label)) if label else ""))
    return found


def _problems(each: _Listed, there: Collection[str]) -> list[Finding]:
    findings = []
    exclude = f"or exclude the case (--exclude {each.name})."
    if not is_case_name(each.name):
        findings.append(Finding("CASE_NAME", f"{each.name!r} cannot be a case", NAME_REMEDY, each.name))
    if each.image not in there:
        problem, remedy = f"{_FILE} lists an image that is not there", f"Get the file, {exclude}"
        findings.append(Finding("MISSING_IMAGE", problem, remedy, each.name, (("image", each.image),)))
    if each.label and each.label not in there:
        problem, remedy = f"{_FILE} lists a label that is not there", f"Get the file, {exclude}"
        findings.append(Finding("MISSING_MASK", problem, remedy, each.name, (("mask", each.label),)))
    return findings


def _case(
    each: _Listed, channels: Sequence[str], there: Collection[str], label_names: tuple[tuple[float, str], ...]
) -> Case:
    image = each.image if each.image in there else ""
    of_several = image and len(channels) > 1
    return Case(
        case=each.name,
        subject=each.name,
        split=each.split,
        images={channel: f"{image}#{number}" if of_several else image for number, channel in enumerate(channels)},
        masks=(each.label,) if each.label in there else (),
        label_names=label_names,
    )


def _not_listed(paths: Sequence[PurePosixPath], listed: Collection[str]) -> list[Finding]:
    """A warning about images and labels that dataset.json does not name."""
    others = [
        str(path) for path in paths if path.parts[0] in _FOLDERS and is_nifti(path.name) and str(path) not in listed
    ]
    if not others:
        return []
    problem = f"{counted(len(others), 'NIfTI file')} without use: {_FILE} does not list them"
    shown = tuple(("not used", path) for path in others)
    remedy = "Nothing is to be done if they are not needed."
    return [Finding("UNMATCHED_FILES", problem, remedy, files=shown, severity="warning")]


LAYOUT = Layout(name="decathlon", find=find)
