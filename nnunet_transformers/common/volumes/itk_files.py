"""Read NRRD (`.nrrd`, 3D Slicer's `.seg.nrrd`) and MetaImage (`.mha`) to the last byte, as masks are drawn and saved.

They are parsed here and not by ITK, which takes an NRRD file whose gzip data are cut off or fail their checksum. Both
count millimetres towards left, posterior and superior (NRRD says so), and store the first axis fastest.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_transformers.common.volumes.geometry import Affine
from nnunet_transformers.common.volumes.nifti import Header, Volume, grid_header, require_usable
from nnunet_transformers.common.volumes.stored import (
    BadFileError,
    inflate,
    inflate_zlib,
    not_fetched,
    open_file,
    read_bytes,
)

_HEADER_BYTES = 1 << 20  # 3D Slicer writes some hundred bytes about each segment
_LONGEST_AXIS = 32767  # of a NIfTI-1 header
_SCANNER = 1  # the NIfTI code of a space that nothing more is known about
_NRRD_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int"), "i8"),
    **dict.fromkeys(("int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    **{"float": "f4", "double": "f8"},
}
_MET_TYPES = {
    **{"met_char": "i1", "met_uchar": "u1", "met_short": "i2", "met_ushort": "u2", "met_int": "i4", "met_uint": "u4"},
    **{"met_long": "i4", "met_ulong": "u4", "met_long_long": "i8", "met_ulong_long": "u8"},
    **{"met_float": "f4", "met_double": "f8"},
}
_TOWARDS = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1, 1, 1)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (1, 1, 1)),
}
"""NRRD's spaces, and the signs that make right, anterior and superior of them."""
_SEGMENT = re.compile(r"(Segment\d+)_(Name|LabelValue|Layer)")
_AGAIN = "Get the file again"
_AS_ONE_FILE = "Save it as .nii.gz"


@dataclass(frozen=True)
class _Described:
    """What the text at the start of a file says.

    Attributes:
        form: what such files are called.
        affine: from (i, j, k) to RAS mm.
        encoding: raw, gzip or zlib.
        start: where the voxels begin, in bytes.
        names: (value, name) of segments.
    """

    form: str
    shape: tuple[int, ...]
    affine: Affine
    dtype: np.dtype[Any]
    encoding: str
    start: int
    names: tuple[tuple[float, str], ...] = ()

    @property
    def header(self) -> Header:
        nifti = grid_header(self.affine, _SCANNER)
        nifti.set_data_dtype(self.dtype.newbyteorder("="))
        nifti.set_data_shape(self.shape)
        stored = (f"stored as {self.form}",)
        return Header(self.shape, self.affine, nifti, self.start, stored, direct=False, label_names=self.names)


def read(path: Path) -> Volume:
    """Read a file completely.

    Raises:
        BadFileError: where it is not a readable three-dimensional scalar image with a position in space, in one file.
    """
    stored = read_bytes(path)
    described = _describe(path, stored)
    count = math.prod(described.shape)
    needed = count * described.dtype.itemsize
    content = stored[described.start :]
    if described.encoding == "gzip":
        compressed, content = content, inflate(content)
        if needed > len(content):
            content = inflate(compressed, all_members=True)
    elif described.encoding == "zlib":
        content = inflate_zlib(content, needed)
    if needed > len(content):
        problem = f"its header announces {needed} bytes of voxels, there are {len(content)}"
        raise BadFileError("TRUNCATED", problem, _AGAIN)
    data = np.frombuffer(content, described.dtype, count).reshape(described.shape, order="F")
    return Volume(data, described.header, hashlib.sha256(stored).hexdigest())


def read_header(path: Path) -> Header:
    """Read the header only; the voxels may still be damaged or missing.

    Raises:
        BadFileError: as `read`, as far as the header shows it.
    """
    with open_file(path) as file:
        return _describe(path, file.read(_HEADER_BYTES)).header


def _describe(path: Path, content: bytes) -> _Described:
    form, describe = ("NRRD", _nrrd) if path.name.lower().endswith(".nrrd") else ("MetaImage", _meta_image)
    try:
        return describe(content)
    except (ValueError, KeyError) as error:
        if note := not_fetched(content):
            raise note from None
        missing = f"no {error.args[0]}" if isinstance(error, KeyError) else error
        raise BadFileError("UNREADABLE", f"not a file of the form {form} ({missing})", _AGAIN) from None


def _nrrd(content: bytes) -> _Described:
    if not re.match(rb"NRRD000\d\r?\n", content):
        raise ValueError("it does not begin with NRRD")
    end = re.search(rb"\r?\n\r?\n", content)
    lines = content[: end.start() if end else len(content)].decode("utf-8", "replace").splitlines()[1:]
    fields: dict[str, str] = {}
    about: dict[str, str] = {}
    for line in lines:
        name, mark, value = line.partition(":")
        if value.startswith("="):
            about[name] = value[1:].strip()
        elif mark and not line.startswith("#"):
            fields[name.strip().lower()] = value.strip()
    if "data file" in fields or "datafile" in fields:
        raise _elsewhere()
    if not end:
        raise BadFileError("TRUNCATED", "its header has no end", _AGAIN)
    _check_nrrd_shape(fields, about)
    encoding = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}.get(fields["encoding"].lower(), "")
    if not encoding or any(fields.get(name, "0") != "0" for name in ("line skip", "byte skip", "lineskip", "byteskip")):
        problem = f"its voxels are stored in a way that is not read here (encoding {fields['encoding']})"
        raise BadFileError("UNREADABLE", problem, _AS_ONE_FILE)
    order = ">" if fields.get("endian", "").lower() == "big" else "<"
    return _Described(
        form="NRRD",
        shape=_shape(fields["sizes"]),
        affine=_nrrd_affine(fields),
        dtype=_dtype(_NRRD_TYPES.get(fields["type"].lower()), order, fields["type"]),
        encoding=encoding,
        start=end.end(),
        names=tuple(
            (float(segment["LabelValue"]), segment.get("Name", ""))
            for segment in _segments(about)
            if "LabelValue" in segment
        ),
    )


def _check_nrrd_shape(fields: Mapping[str, str], about: Mapping[str, str]) -> None:
    """Refuse what is not one number per voxel of a volume; of 3D Slicer's layers with the names of the segments."""
    if fields["dimension"] == "3":
        return
    sizes, kinds = fields["sizes"].split(), fields.get("kinds", "").split()
    named = [segment["Name"] for segment in _segments(about) if segment.get("Name")]
    if named and len(sizes) == 4:
        problem = f"{sizes[0]} layers of segments, which may overlap: {', '.join(named)}"
        remedy = (
            "Export the lesion alone from 3D Slicer (module Segmentations, Export/import models and labelmaps, Export "
            "to a labelmap) and save that"
        )
        raise BadFileError("NOT_3D", problem, remedy)
    if len(sizes) == 4 and kinds and kinds[0].lower() not in ("domain", "space", "time", "list"):
        raise BadFileError("VOXEL_TYPE", f"{sizes[0]} numbers per voxel ({kinds[0]})", "Export one number per voxel")
    raise _not_3d(sizes)


def _segments(about: Mapping[str, str]) -> list[dict[str, str]]:
    """What 3D Slicer says of each segment, by the end of the key: Name, LabelValue, Layer."""
    segments: dict[str, dict[str, str]] = {}
    for key, value in about.items():
        if match := _SEGMENT.fullmatch(key):
            segments.setdefault(match[1], {})[match[2]] = value
    return list(segments.values())


def _nrrd_affine(fields: Mapping[str, str]) -> Affine:
    towards = _TOWARDS.get(fields.get("space", "").lower())
    if towards is None or "space directions" not in fields or "space origin" not in fields:
        raise _no_position("space, space directions and space origin")
    units = set(re.findall(r'"([^"]*)"', fields.get("space units", "")))
    if units - {"", "mm"}:
        raise BadFileError("BAD_AFFINE", f"its unit is {', '.join(sorted(units))}, not mm", "Export it again in mm")
    axes = [_three(each) for each in re.findall(r"\(([^)]*)\)", fields["space directions"])]
    return _affine(axes, _three(fields["space origin"].strip("() ")), towards)


def _meta_image(content: bytes) -> _Described:
    end = re.search(rb"^ElementDataFile[ \t]*=[ \t]*([^\r\n]*?)[ \t]*\r?\n", content, re.MULTILINE)
    if not end:
        raise ValueError("no ElementDataFile")
    lines = content[: end.start()].decode("utf-8", "replace").splitlines()
    fields = {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}
    if end[1].upper() != b"LOCAL":
        raise _elsewhere()
    if fields["NDims"] != "3":
        raise _not_3d(fields["DimSize"].split())
    if (channels := fields.get("ElementNumberOfChannels", "1")) != "1":
        raise BadFileError("VOXEL_TYPE", f"{channels} numbers per voxel", "Export one number per voxel")
    if not _is_true(fields.get("BinaryData", "True")) or fields.get("HeaderSize", "0") != "0":
        raise BadFileError("UNREADABLE", "its voxels are stored in a way that is not read here", _AS_ONE_FILE)
    if (unit := fields.get("DistanceUnits", "mm")) not in ("mm", "?"):
        raise BadFileError("BAD_AFFINE", f"its unit is {unit}, not mm", "Export it again in mm")
    matrix = _first(fields, "TransformMatrix", "Orientation", "Rotation")
    offset = _first(fields, "Offset", "Position", "Origin")
    spacing = _first(fields, "ElementSpacing", "ElementSize")
    if not (matrix and offset and spacing):
        raise _no_position("TransformMatrix, Offset and ElementSpacing")
    axes = np.reshape([float(each) for each in matrix.split()], (3, 3)) * np.reshape(_three(spacing), (3, 1))
    is_big = _is_true(_first(fields, "BinaryDataByteOrderMSB", "ElementByteOrderMSB"))
    return _Described(
        form="MetaImage",
        shape=_shape(fields["DimSize"]),
        affine=_affine(axes, _three(offset), _TOWARDS["lps"]),
        dtype=_dtype(_MET_TYPES.get(fields["ElementType"].lower()), ">" if is_big else "<", fields["ElementType"]),
        encoding="zlib" if _is_true(fields.get("CompressedData", "")) else "raw",
        start=end.end(),
    )


def _first(fields: Mapping[str, str], *names: str) -> str:
    """The value of the first name that is there: versions of MetaImage call one thing by several."""
    return next((fields[name] for name in names if name in fields), "")


def _is_true(text: str) -> bool:
    return text[:1].upper() in ("T", "1")


def _three(text: str) -> list[float]:
    """Three numbers between blanks or commas."""
    first, second, third = (float(each) for each in text.replace(",", " ").split())
    return [first, second, third]


def _affine(axes: Sequence[Sequence[float]] | np.ndarray, origin: Sequence[float], towards: Sequence[int]) -> Affine:
    """The affine to RAS mm.

    Args:
        axes: the step in mm from voxel to voxel along i, j and k, one after another.
        origin: the place of the first voxel in mm.
        towards: signs that turn both to right, anterior, superior.
    """
    if len(axes) != 3:
        raise ValueError(f"{len(axes)} directions of 3 axes")
    affine = np.eye(4)
    affine[:3, :3] = np.transpose(axes)
    affine[:3, 3] = origin
    affine[:3] *= np.reshape(towards, (3, 1))
    require_usable(affine)
    return affine


def _shape(text: str) -> tuple[int, ...]:
    sizes = text.split()
    shape = tuple(int(size) for size in sizes)
    if len(shape) != 3 or min(shape) < 2 or max(shape) > _LONGEST_AXIS:
        raise _not_3d(sizes)
    return shape


def _dtype(kind: str | None, order: str, named: str) -> np.dtype[Any]:
    if kind is None:
        raise BadFileError("VOXEL_TYPE", f"voxels of type {named} cannot be used", "Export one number per voxel")
    return np.dtype(order + kind)


def _not_3d(sizes: Sequence[str]) -> BadFileError:
    return BadFileError(
        "NOT_3D", f"not a single 3D volume, its size is {' × '.join(sizes)}", "Give one 3D volume per file"
    )


def _no_position(fields: str) -> BadFileError:
    problem = f"its header has no position in space ({fields}), so left and right are unknown"
    return BadFileError("NO_ORIENTATION", problem, "Export it again with its orientation")


def _elsewhere() -> BadFileError:
    return BadFileError("UNREADABLE", "only a header: its voxels lie in another file", _AS_ONE_FILE)
