"""A source folder: its files, or why there is nothing in it to convert."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from dataset_conversion.errors import ConversionError, stop
from dataset_conversion.layouts.walk import walk
from nnunet_transformers.common.problems import Finding
from nnunet_transformers.common.volumes.names import is_nifti
from nnunet_transformers.common.words import counted

_DICOM_ENDINGS = (".dcm", ".dicom", ".ima")
_WITH_SIMPLEITK = (
    """python -c "import SimpleITK as sitk; sitk.WriteImage(sitk.ReadImage('{}'), 'IMAGE.nii.gz')", or 3D Slicer"""
)
_TO_NIFTI = {
    ".mgz": "mri_convert IMAGE.mgz IMAGE.nii.gz (FreeSurfer)",
    ".mgh": "mri_convert IMAGE.mgh IMAGE.nii.gz (FreeSurfer)",
    ".img": "fslchfiletype NIFTI_GZ IMAGE.img (FSL)",
    ".hdr": "fslchfiletype NIFTI_GZ IMAGE.hdr (FSL)",
    ".mnc": "mnc2nii IMAGE.mnc IMAGE.nii (MINC), then gzip",
    ".nrrd": _WITH_SIMPLEITK.format("IMAGE.nrrd"),
    ".nhdr": _WITH_SIMPLEITK.format("IMAGE.nhdr"),
    ".mha": _WITH_SIMPLEITK.format("IMAGE.mha"),
    ".mhd": _WITH_SIMPLEITK.format("IMAGE.mhd"),
}
"""Other forms of images, and what makes NIfTI of them; masks are read from NRRD and MHA too."""
_MAX_OPENED = 1000


def list_files(source: Path, expected: str) -> tuple[list[PurePosixPath], list[Finding]]:
    """Files below a source folder, relative to it, and what is wrong with folders in it.

    A folder that may not be listed is an error; links to nothing, empty folders of subjects and hidden images are
    warnings.

    Args:
        source: what the user gave.
        expected: what the layout expects there, as a sentence.

    Raises:
        ConversionError: NO_SOURCE where it is not a folder.
    """
    require_folder(source, expected)
    listing = walk(source)
    findings = [
        Finding("UNREADABLE_FOLDER", f"no permission to list the folder {path}", "Make it readable.")
        for path in listing.unreadable
    ]
    if dead := listing.dead_links:
        problem = f"{counted(len(dead), 'link')} to nothing, such as {dead[0]}"
        shown = tuple(("link", str(path)) for path in dead)
        remedy = "If a folder of cases should be there, mend the link."
        findings.append(Finding("UNREADABLE_FOLDER", problem, remedy, files=shown, severity="warning"))
    if empty := [path for path in listing.empty if any(part.lower().startswith("sub-") for part in path.parts)]:
        problem = f"{counted(len(empty), 'folder')} of subjects without any file, such as {empty[0]}"
        shown = tuple(("empty", str(path)) for path in empty)
        remedy = "Get the files if there should be some (datalad get -n, or unpack the archive again)."
        findings.append(Finding("EMPTY_FOLDER", problem, remedy, files=shown, severity="warning"))
    if hidden := listing.hidden:
        problem = (
            f"{counted(len(hidden), 'NIfTI file')} whose name starts with a dot, such as {hidden[0]}, not looked at"
        )
        shown = tuple(("not used", str(path)) for path in hidden)
        remedy = "Rename it if it is needed: such names are hidden."
        findings.append(Finding("HIDDEN_FILES", problem, remedy, files=shown, severity="warning"))
    return listing.files, findings


def require_folder(source: Path, expected: str) -> None:
    """Refuse what is not a folder.

    Raises:
        ConversionError: NO_SOURCE, with `expected` as what to do.
    """
    if os.path.isdir(source):
        return
    problem, remedy = "is not a folder", "Unpack the archive and give its folder. " if os.path.isfile(source) else ""
    try:
        source.stat()
    except FileNotFoundError:
        problem = "does not exist"
    except OSError as error:
        problem = f"cannot be opened ({error.strerror})"
    raise stop("NO_SOURCE", f"{source} {problem}", remedy + expected)


def no_cases(
    source: Path, paths: Sequence[PurePosixPath], kind: str, expected: str, findings: Sequence[Finding] = ()
) -> ConversionError:
    """The error for a folder without a case of some kind ("ATLAS"); it tells DICOM files from a wrong folder.

    `findings` are what else was found on the way, such as folders that may not be listed.
    """
    problem = f"no {kind} case among the {len(paths)} files under {source}"
    if others := other_forms(source, paths):
        problem += f"; {others[0]}"
    shown = tuple(("found", str(path)) for path in [path for path in paths if is_nifti(path.name)] or paths)
    return ConversionError([Finding("NO_CASES", problem, " ".join([*others[1:], expected]), files=shown), *findings])


def other_forms(source: Path, paths: Sequence[PurePosixPath]) -> list[str]:
    """What the files are and the command that makes NIfTI of them, where they are images in another form."""
    if dicom := first_dicom(source, paths):
        folders = f"{shlex.quote(f'{source.name}_nifti')} {shlex.quote(str(source))}"
        # dcm2niix makes no folder.
        command = f"mkdir -p {shlex.quote(f'{source.name}_nifti')} && dcm2niix -z y -f %i_%t_%p -o {folders}"
        return [f"{dicom} is a DICOM file", f"Convert DICOM to NIfTI with dcm2niix first: {command}."]
    for path in paths:
        ending = path.suffix.lower()
        if ending in _TO_NIFTI:
            return [f"{path} is not NIfTI", f"Images must be NIfTI: {_TO_NIFTI[ending]}."]
    return []


def is_volume(name: str) -> bool:
    """Whether it is called like an image or a mask, in whatever form."""
    return is_nifti(name) or name.lower().endswith((*_TO_NIFTI, *_DICOM_ENDINGS))


def first_dicom(source: Path, paths: Iterable[PurePosixPath]) -> PurePosixPath | None:
    """The first file with a DICOM ending or, among 1000 others that are not NIfTI, with DICM at byte 128."""
    others = [path for path in paths if not path.name.lower().endswith((".nii", ".nii.gz"))]
    named = next((path for path in others if path.name.lower().endswith(_DICOM_ENDINGS)), None)
    return named or next((path for path in others[:_MAX_OPENED] if _has_dicom_mark(source / path)), None)


def _has_dicom_mark(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
