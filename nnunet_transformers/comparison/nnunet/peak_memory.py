"""How much memory a training took: nnU-Net does not record it, so the process that runs the training does."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from nnunet_transformers.common.files import write_whole
from nnunet_transformers.comparison.nnunet.state import load_json

FILE = "peak_memory.json"
_BYTES_PER_MAXRSS = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class PeakMemory:
    """The most memory a training held at once.

    Attributes:
        mib: of PyTorch's tensors on a GPU; without one of the process, with all that it had loaded.
        of: "GPU" or "process".
    """

    mib: float
    of: str


def record_peak_memory(folder: Path) -> None:
    """Write the peak of this process so far into a fold's folder, if no earlier part of the training took more."""
    if not folder.is_dir():
        return
    now, before = _peak_of_this_process(), read_peak_memory(folder)
    if now and not (before and before.of == now.of and before.mib >= now.mib):
        write_whole(folder / FILE, json.dumps(asdict(now)) + "\n")


def read_peak_memory(folder: Path) -> PeakMemory | None:
    """What was recorded in a fold's folder; None where nothing was, or not by this package."""
    content = load_json(folder / FILE)
    if not isinstance(content, dict):
        return None
    mib, of = content.get("mib"), content.get("of")
    return PeakMemory(float(mib), of) if isinstance(mib, (int, float)) and of in ("GPU", "process") else None


def _peak_of_this_process() -> PeakMemory | None:
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available() and torch.cuda.is_initialized():
        return PeakMemory(torch.cuda.max_memory_allocated() / 2**20, "GPU")
    if sys.platform == "win32":
        return None
    import resource

    return PeakMemory(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _BYTES_PER_MAXRSS / 2**20, "process")
