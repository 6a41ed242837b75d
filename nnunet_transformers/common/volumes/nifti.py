"""Read NIfTI files to the last byte, and write them so that equal voxels give equal bytes."""

from __future__ import annotations

import contextlib
import hashlib
import math
import tempfile
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK
from isal import igzip

from nnunet_transformers.common.volumes.geometry import Affine, corner_distance, orthonormal, voxel_sizes
from nnunet_transformers.common.volumes.stored import (
    BadFileError,
    inflate,
    not_fetched,
    not_gzip,
    open_file,
    read_bytes,
)

_GEOMETRY_FIELDS = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z", "xyzt_units", "pixdim"),
)
_TEXT_FIELDS = ("data_type", "db_name", "intent_name", "descrip", "aux_file")
_MM_PER_UNIT = {1: 1e3, 2: 1.0, 3: 1e-3}  # the codes of NIfTI's xyzt_units: metre, millimetre, micrometre
_SPACING_LIMITS = (0.01, 100.0)  # mm; beyond, the header is wrong (often its unit), not the scanner
_GZIP_LEVEL = 1  # ISA-L's: the size of zlib's level 1 in a tenth of its time
_HEADER_BYTES_STORED = 4096  # a gzip header and a NIfTI header lie within them, whatever the compression

SCALED = "scale factors in the header"


@dataclass(frozen=True)
class Header:
    """What a file says about its voxels before they are read.

    `shape` is (i, j, k), `affine` maps (i, j, k) to mm (sform before qform). `oddities` are the ways in which the
    stored file is not the plain 3D `.nii.gz` that nnU-Net's reader expects.

    Attributes:
        offset: where the voxels of the file begin, in bytes.
        direct: whether the file is NIfTI and this volume all it holds, so that nnU-Net's default reader can be asked
            what it takes from it.
        label_names: (value, name) of what is drawn in a mask, where the file says so.
    """

    shape: tuple[int, ...]
    affine: Affine
    nifti: nib.Nifti1Header
    offset: int
    oddities: tuple[str, ...]
    direct: bool = True
    label_names: tuple[tuple[float, str], ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the voxels as they are stored."""
        return self.nifti.get_data_dtype()

    @property
    def code(self) -> int:
        """The NIfTI code of the space that `affine` maps to (1 scanner, 2 aligned, 3 Talairach, 4 MNI)."""
        sform, qform = int(self.nifti["sform_code"]), int(self.nifti["qform_code"])
        code = sform if sform > 0 else qform
        return code if code <= 4 else 2

    @cached_property
    def without_texts(self) -> bytes:
        """The header's bytes with its texts cleared: the same for all files of one grid and type."""
        cleared = self.nifti.copy()
        for name in _TEXT_FIELDS:
            if name in cleared:  # NIfTI-2 has fewer
                cleared[name] = b""
        return bytes(cleared.binaryblock)


@dataclass(frozen=True)
class Volume:
    """A three-dimensional NIfTI image in memory: `data` is (i, j, k), with the header's scale factors applied.

    Attributes:
        sha256: of the file.
    """

    data: np.ndarray
    header: Header
    sha256: str

    @property
    def affine(self) -> Affine:
        return self.header.affine

    @property
    def oddities(self) -> tuple[str, ...]:
        return self.header.oddities


def read(path: Path, volume: int | None = None) -> Volume:
    """Read a file completely: a truncated or damaged one is found here and not during training.

    Args:
        path: of the file.
        volume: which one, counted from 0, of a file that may hold several; None: the file must hold one.

    Raises:
        BadFileError: where the file is not a readable three-dimensional scalar image with a position in space.
    """
    content, sha256 = _content(path, volume)
    header = _parse(path, content, volume)
    count = math.prod(header.shape)
    start = header.offset + (volume or 0) * count * header.dtype.itemsize
    data = np.frombuffer(content, header.dtype, count, start).reshape(header.shape, order="F")
    slope, intercept = header.nifti.get_slope_inter()
    if slope is not None and (slope, intercept) != (1, 0):
        data = data * float(slope) + float(intercept or 0)
    return Volume(data, header, sha256)


def _content(path: Path, volume: int | None) -> tuple[bytes, str]:
    """All that a file holds, inflated, and the SHA-256 of the file."""
    kept: dict[Path, tuple[bytes, str]] | None = getattr(_last, "file", None) if volume is not None else None
    if kept is not None:
        if path in kept:
            return kept[path]
        kept.clear()
    stored = read_bytes(path)
    compressed = path.name.lower().endswith(".gz")
    content = inflate(stored) if compressed else stored
    header = _parse(path, content, volume)
    needed = header.offset + math.prod(header.nifti.get_data_shape()) * header.dtype.itemsize
    if needed > len(content) and compressed:
        content = inflate(stored, all_members=True)
    if needed > len(content):
        problem = f"its header announces {needed} bytes, there are {len(content)}"
        raise BadFileError("TRUNCATED", problem, "Get the file again")
    result = content, hashlib.sha256(stored).hexdigest()
    if kept is not None:
        kept[path] = result
    return result


_last = threading.local()


@contextlib.contextmanager
def last_file_kept() -> Iterator[None]:
    """Within, this thread keeps the last file of several volumes, so that one after another they cost one reading."""
    _last.file = {}
    try:
        yield
    finally:
        del _last.file


def read_header(path: Path, volume: int | None = None) -> Header:
    """Read the header only; the voxels may still be damaged or missing.

    Raises:
        BadFileError: as `read`, as far as the header shows it.
    """
    with open_file(path) as file:
        start = file.read(_HEADER_BYTES_STORED)
    if path.name.lower().endswith(".gz"):
        try:
            start = zlib.decompressobj(wbits=31).decompress(start, 540)
        except zlib.error as error:
            raise not_gzip(start, error) from None
    return _parse(path, start, volume)


def seen_by_simpleitk(path: Path, header: Header) -> Affine | None:
    """The grid, as a RAS affine in mm, that nnU-Net's default reader takes from a file; None where it refuses it.

    Asked once for all files with the same header, whatever its texts say: in a template's space that is all of them.
    Where a header is not `direct`, it is the header's own grid: what is made of such a file will have that.
    """
    if not header.direct:
        return header.affine
    key = header.without_texts
    if key not in _seen:
        _seen[key] = _ask_simpleitk(path)
    return _seen[key]


_seen: dict[bytes, Affine | None] = {}


def forms_distance(header: Header) -> float:
    """How far apart qform and sform place a corner voxel, in mm; 0 where the header holds one of them only.

    A qform cannot be sheared, so the sform counts with its axes made perpendicular. Compared once for all files with
    the same header, whatever its texts say.
    """
    key = header.without_texts
    if key not in _forms_distances:
        qform = _second_position(header.nifti)
        straight = orthonormal(header.affine)
        _forms_distances[key] = 0.0 if qform is None else corner_distance(qform, straight, header.shape)
    return _forms_distances[key]


_forms_distances: dict[bytes, float] = {}


def _ask_simpleitk(path: Path) -> Affine | None:
    if any("\ud800" <= letter <= "\udfff" for letter in str(path)):
        # SimpleITK takes names as UTF-8, and its binding ends the process at one that is not.
        with tempfile.TemporaryDirectory() as folder:
            link = Path(folder) / ("image.nii.gz" if path.name.lower().endswith(".gz") else "image.nii")
            link.symlink_to(path.absolute())
            return _ask_simpleitk(link)
    reader = SimpleITK.ImageFileReader()
    # The one that it would choose itself, after opening the file once for each format it knows.
    reader.SetImageIO("NiftiImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    if reader.GetDimension() != 3:
        return None
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) * np.array(reader.GetSpacing())
    affine[:3, 3] = reader.GetOrigin()
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def grid_header(affine: Affine, code: int) -> nib.Nifti1Header:
    """A header with this grid in mm as both qform and sform, and nothing else."""
    header = nib.Nifti1Header()
    header.set_xyzt_units("mm")
    header.set_data_shape((1, 1, 1))
    header.set_qform(affine, code)
    header.set_sform(affine, code)
    return header


def write(path: Path, data: np.ndarray, grid: nib.Nifti1Header) -> None:
    """Write a .nii.gz with the grid of a header; equal arguments give equal bytes, wherever and whenever.

    Args:
        data: (i, j, k) of a NIfTI type, stored unscaled.
        grid: only its qform, sform, spacing and unit are used.
    """
    header = nib.Nifti1Header()
    header.set_data_dtype(data.dtype)
    header.set_data_shape(data.shape)
    for name in _GEOMETRY_FIELDS:
        header[name] = grid[name]
    header["pixdim"][4:] = 1
    header.set_slope_inter(1, 0)
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    start = header.binaryblock + bytes(4)  # no extension
    content = bytearray(len(start) + data.nbytes)
    content[: len(start)] = start
    # NIfTI stores i fastest: Fortran's order.
    np.frombuffer(content, data.dtype, data.size, len(start)).reshape(data.shape, order="F")[...] = data
    with path.open("xb") as file:
        file.write(igzip.compress(content, _GZIP_LEVEL, mtime=0))


def _parse(path: Path, content: bytes, volume: int | None = None) -> Header:
    """The header at the start of these bytes."""
    kind = nib.Nifti2Header if _size_field(content) == 540 else nib.Nifti1Header
    try:
        header = kind(content[: kind.template_dtype.itemsize], check=False)
        if header["magic"].item() not in (b"n+1", b"n+2"):
            raise ValueError("it lacks the mark of a single-file NIfTI")
        shape = tuple(int(size) for size in header.get_data_shape())
        dtype = header.get_data_dtype()
        offset = int(header["vox_offset"]) or kind.single_vox_offset
        if offset < kind.sizeof_hdr:
            raise ValueError(f"its voxels cannot begin at byte {offset}")
        header.get_slope_inter()
    except Exception as error:  # nibabel raises many types for malformed content
        if note := not_fetched(content):
            raise note from None
        remedy = "Get the file again, or convert it to NIfTI"
        raise BadFileError("UNREADABLE", f"not a NIfTI file ({error})", remedy) from None
    oddities = []
    if not path.name.endswith(".nii.gz"):
        oddities.append("not named .nii.gz")
    if kind is nib.Nifti2Header:
        oddities.append("NIfTI-2")
    if _mm_per_unit(header) != 1:
        oddities.append("its unit is not mm")
    if not shape or min(shape) < 1:
        raise BadFileError("NOT_3D", f"no voxels, its size is {shape}", "Give one 3D volume per file")
    if volume is not None and len(shape) >= 3:
        volumes = math.prod(shape[3:])
        if volume >= volumes:
            problem = f"has no volume {volume}: there are {volumes}, counted from 0"
            raise BadFileError("NO_VOLUME", problem, "Correct the number behind the #")
        oddities.append(f"volume {volume} of {volumes}")
        shape = shape[:3]
    elif len(shape) > 3 and all(size == 1 for size in shape[3:]):
        oddities.append(f"{len(shape)} dimensions, the last of size 1")
        shape = shape[:3]
    if len(shape) != 3 or min(shape) < 2:
        size = " × ".join(map(str, shape))
        remedy = "Give one 3D volume per file"
        if len(shape) > 3 and min(shape[:3]) > 1:
            remedy += f", or name one of these in a case table ({path.name}#0 is the first)"
        raise BadFileError("NOT_3D", f"not a single 3D volume, its size is {size}", remedy)
    if dtype.kind not in "iuf":
        raise BadFileError("VOXEL_TYPE", f"voxels of type {dtype} cannot be used", "Export one number per voxel")
    if header["scl_slope"] not in (0, 1) or header["scl_inter"] != 0:
        oddities.append(SCALED)
    return Header(shape, _affine(header), header, offset, tuple(oddities), direct=volume is None)


def _size_field(content: bytes) -> int:
    """The header's own size in either byte order: 348 for NIfTI-1, 540 for NIfTI-2."""
    little, big = int.from_bytes(content[:4], "little"), int.from_bytes(content[:4], "big")
    return min(little, big)


def _affine(header: nib.Nifti1Header) -> Affine:
    if header["sform_code"] <= 0 and header["qform_code"] <= 0:
        problem = "its header has no position in space (sform and qform codes are 0), so left and right are unknown"
        raise BadFileError("NO_ORIENTATION", problem, "Export it again with its orientation")
    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except Exception as error:  # nibabel raises many types for malformed content
        raise BadFileError("BAD_AFFINE", f"its header has no usable affine ({error})", "Export it again") from None
    affine[:3] *= _mm_per_unit(header)
    require_usable(affine)
    return affine


def require_usable(affine: Affine) -> None:
    """Refuse a grid whose voxels no scanner makes.

    Raises:
        BadFileError: BAD_AFFINE.
    """
    spacing = voxel_sizes(affine)
    low, high = _SPACING_LIMITS
    if not np.isfinite(affine).all() or not ((spacing > low) & (spacing < high)).all():
        sizes = " × ".join(f"{size:.4g}" for size in spacing)
        problem = f"its header gives a voxel size of {sizes} mm"
        raise BadFileError("BAD_AFFINE", problem, "Correct the header (affine and unit)")


def _second_position(header: nib.Nifti1Header) -> Affine | None:
    """The qform in mm, where the header holds it beside the sform."""
    if header["sform_code"] <= 0 or header["qform_code"] <= 0:
        return None
    try:
        qform = np.asarray(header.get_qform(), dtype=np.float64)
    except Exception:  # nibabel raises many types for malformed content; the sform is there
        return None
    qform[:3] *= _mm_per_unit(header)
    return qform if np.isfinite(qform).all() else None


def _mm_per_unit(header: nib.Nifti1Header) -> float:
    return _MM_PER_UNIT.get(int(header["xyzt_units"]) % 8, 1.0)
