"""A source folder: its files, or why there is nothing in it to convert."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from dataset_conversion.errors import ConversionError, stop
from dataset_conversion.layouts.walk import walk
from nnunet_transformers.common.problems import Finding

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
    """Files below a source folder, relative to it, and an error for each folder that may not be listed.

    Args:
        source: what the user gave.
        expected: what the layout expects there, as a sentence.

    Raises:
        ConversionError: NO_SOURCE where it is not a folder.
    """
    if not os.path.isdir(source):
        problem = "is not a folder" if os.path.exists(source) else "does not exist, or lies where you may not enter"
        remedy = "Unpack the archive and give its folder. " if os.path.isfile(source) else ""
        raise stop("NO_SOURCE", f"{source} {problem}", remedy + expected)
    paths, unreadable = walk(source)
    findings = [
        Finding("UNREADABLE_FOLDER", f"no permission to list the folder {path}", "Make it readable.")
        for path in unreadable
    ]
    return paths, findings


def no_cases(
    source: Path, paths: Sequence[PurePosixPath], kind: str, expected: str, findings: Sequence[Finding] = ()
) -> ConversionError:
    """The error for a folder without a case of some kind ("ATLAS"); it tells DICOM files from a wrong folder.

    `findings` are what else was found on the way, such as folders that may not be listed.
    """
    problem = f"no {kind} case among the {len(paths)} files under {source}"
    if paths:
        problem += f", such as {', '.join(str(path) for path in paths[:3])}"
    if others := other_forms(source, paths):
        problem += f"; {others[0]}"
    return ConversionError([Finding("NO_CASES", problem, " ".join([*others[1:], expected])), *findings])


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
