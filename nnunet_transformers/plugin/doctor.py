"""What is set up and what is not, on one screen, and how to mend it."""

from __future__ import annotations

import contextlib
import io
import math
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from nnunet_transformers.plugin.autostart import OPT_OUT, TRAINER_FOLDER, VARIABLE

_PACKAGES = ("nnunet-transformers", "nnunetv2", "torch", "dynamic-network-architectures", "timm")
_PATHS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
_AUGMENTERS = "nnUNet_n_proc_DA"


@dataclass(frozen=True)
class Check:
    """One line of the doctor.

    Attributes:
        name: what was looked at.
        ok: True where it works, False where it must be mended, None where it is only worth knowing.
        found: what was found.
        remedy: what to do; empty where nothing.
    """

    name: str
    ok: bool | None
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        mark = {True: "ok", False: "NO", None: "--"}[self.ok]
        return f"{mark}  {self.name:<30} {self.found}" + (f"\n{'':35}-> {self.remedy}" if self.remedy else "")


def examine() -> list[Check]:
    """All checks; nothing is changed."""
    return [*_versions(), *_plugin(), *_trainers(), *_paths(), *_device()]


def _versions() -> Iterator[Check]:
    yield Check("Python", None, platform.python_version())
    for package in _PACKAGES:
        try:
            yield Check(package, None, metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Check(package, False, "not installed", f"pip install {package}")


def _plugin() -> Iterator[Check]:
    folders = os.environ.get(VARIABLE, "").split(os.pathsep)
    if TRAINER_FOLDER in folders:
        yield Check(VARIABLE, True, "names our folder")
    elif os.environ.get(OPT_OUT):
        yield Check(
            VARIABLE, False, f"switched off by {OPT_OUT}", f'unset {OPT_OUT}, or eval "$(nnunet-transformers env)"'
        )
    else:
        remedy = 'reinstall nnunet-transformers, or eval "$(nnunet-transformers env)" in each shell'
        yield Check(VARIABLE, False, "does not name our folder: the start-up file was not read", remedy)


def _trainers() -> Iterator[Check]:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    from nnunet_transformers.training import trainers

    for name in trainers.trainer_names():
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                found = recursive_find_trainer_class_by_name(name)
        except RuntimeError:
            yield Check(name, False, "nnU-Net does not find it", f"mend {VARIABLE} first, see above")
            continue
        if found is getattr(trainers, name):
            yield Check(name, True, "found by nnU-Net")
        else:
            remedy = f"a trainer of this name in {found.__module__} comes first; remove or rename it"
            yield Check(name, False, "nnU-Net finds another one", remedy)


def _paths() -> Iterator[Check]:
    for variable in _PATHS:
        value = os.environ.get(variable)
        if not value:
            yield Check(variable, False, "not set", f"export {variable}=/your/folder")
        elif not Path(value).is_dir():
            yield Check(variable, False, f"{value} is not a folder", f'mkdir -p "{value}"')
        else:
            yield Check(variable, True, value)
    if os.environ.get(_AUGMENTERS) == "0":
        yield Check(
            _AUGMENTERS, None, "0: trainings augment in their own process, and nnU-Net's planning fails",
            f"plan with {_AUGMENTERS}=1 nnUNetv2_plan_and_preprocess …; compare run does so by itself",
        )  # fmt: skip


def _device() -> Iterator[Check]:
    import torch

    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        yield Check("GPU", True, f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    if torch.cuda.is_available():
        yield from _training_step("cuda")
    elif torch.backends.mps.is_available():
        yield Check("GPU", None, "Apple's; train with -device mps")
        yield from _training_step("mps")
    else:
        yield Check("GPU", None, "none that torch can use; train with -device cpu, which is slow")
        yield from _training_step("cpu")


def _training_step(device: str) -> Iterator[Check]:
    """One step of a small Swin UNETR by nnU-Net's own means, compiled where it would compile a user's network."""
    import torch
    from torch._dynamo import OptimizedModule

    from nnunet_transformers.training.eager_fallback import one_line
    from nnunet_transformers.training.rehearsal import plans_for, random_batch, rehearsal
    from nnunet_transformers.training.trainers import nnUNetTrainerSwinUNETR

    print(f"Taking a training step on {device} (where it is compiled, that takes a minute or two) ...", file=sys.stderr)
    plans, started = plans_for((32, 32, 32), (1, 1, 1), width=16), time.perf_counter()
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            rehearsal(nnUNetTrainerSwinUNETR, plans, torch.device(device)) as trainer,
        ):
            loss = float(trainer.train_step(random_batch(trainer))["loss"])
            log = Path(trainer.log_file).read_text().splitlines()
            compiled = isinstance(trainer.network, OptimizedModule)
    except Exception as error:  # whatever it is, a training would end with it
        yield Check("training step", False, f"fails on {device}: {one_line(error)}")
        return
    seconds = time.perf_counter() - started
    in_eager_mode = [line for line in log if "eager mode" in line]
    if not math.isfinite(loss):
        yield Check("training step", False, f"the loss on {device} is {loss}")
    elif in_eager_mode:
        said = in_eager_mode[0].partition(": ")[2]  # after nnU-Net's time stamp
        yield Check("training step", None, f"right on {device}, in eager mode, as a training here will be: {said}")
    else:
        how = "compiled" if compiled else "not compiled, nor will nnU-Net compile a training here"
        yield Check("training step", True, f"right on {device}, {how}; {seconds:.0f} s")
