"""Where the numbers come from: hashes of what was compared, versions, machines, and the commands to repeat it."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import nnunet_transformers
from nnunet_transformers.comparison.metrics.images import DataFolders
from nnunet_transformers.comparison.nnunet import commands
from nnunet_transformers.comparison.nnunet.results import Results, read_json
from nnunet_transformers.comparison.nnunet.timing import Training

_PACKAGES = (
    "nnunet-transformers",
    "nnunetv2",
    "dynamic-network-architectures",
    "torch",
    "SimpleITK",
    "numpy",
    "scipy",
    "pandas",
)


def provenance(
    results: Results, data: DataFolders, name_of: Callable[[str], str], trainings: Mapping[str, Training]
) -> list[tuple[str, str]]:
    """Facts as (name, value), all of them derived from files and from this machine.

    Args:
        name_of: from the identifier of a model to what it is called in the report.
        trainings: by the identifier of the model.
    """
    entries = [("dataset", results.dataset), ("results folder", str(results.folder.resolve()))]
    entries += [
        (name, f"{_about(path)}SHA-256 {sha256(path)}")
        for name, path in {
            "dataset.json": results.first.folder / "dataset.json",
            "dataset_fingerprint.json": _fingerprint(results, data),
            "splits_final.json": data.splits,
        }.items()
        if path and path.is_file()
    ]
    for model in results.models:
        plans = model.folder / "plans.json"
        if plans.is_file():
            entries.append((f"plans of {name_of(model.identifier)}", f"{model.plans}, SHA-256 {sha256(plans)}"))
    machines = dict.fromkeys(machine for training in trainings.values() for machine in training.machines)
    entries.append(("trained on", "; ".join(machines) or "not recorded (no debug.json)"))
    entries.append(
        ("report made on", f"{platform.platform()}, {os.cpu_count()} CPU cores, Python {platform.python_version()}")
    )
    entries.append(("versions there", ", ".join(f"{package} {_version(package)}" for package in _PACKAGES)))
    commit = git_commit(Path(nnunet_transformers.__file__).parent)
    if commit:
        entries.append(("nnunet-transformers at git commit", commit))
    return entries


def commands_to_reproduce(results: Results) -> list[str]:
    """nnU-Net's commands that make these results from the preprocessed dataset."""
    lines = []
    for model in results.models:
        folds = sorted({*model.missing_folds, *(int(fold) for fold in model.scores["fold"].dropna().unique())})
        lines += [
            commands.as_text(commands.train(results.dataset_id, model.configuration, fold, model.trainer, model.plans))
            for fold in folds or range(5)
        ]
    parts = [
        list(dict.fromkeys(getattr(model, part) for model in results.models))
        for part in ("configuration", "trainer", "plans")
    ]
    return [*lines, commands.as_text(commands.find_best_configuration(results.dataset_id, *parts))]


def git_commit(folder: Path) -> str | None:
    """The commit a package's folder is at, and whether files differ from it; None outside a git checkout."""
    if not (folder.parent / ".git").exists():
        return None
    try:
        head, changes = (
            subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}, with uncommitted changes" if changes else head


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _fingerprint(results: Results, data: DataFolders) -> Path:
    copied = results.first.folder / "dataset_fingerprint.json"
    return copied if copied.is_file() or not data.preprocessed else data.preprocessed / copied.name


def _about(path: Path) -> str:
    if path.name == "splits_final.json":
        folds = read_json(path)
        return f"{len(folds)} folds of {len({case for fold in folds for case in fold['val']})} cases, "
    if path.name == "dataset_fingerprint.json":
        return f"{len(read_json(path).get('spacings', []))} cases, "
    return ""


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
