"""Where the numbers come from: hashes of what was compared, versions, machines, and the commands to repeat it."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import nnunet_transformers
from nnunet_transformers.comparison.nnunet import commands
from nnunet_transformers.comparison.nnunet.results import Model, Results, read_json
from nnunet_transformers.comparison.nnunet.state import configuration_of, load_json
from nnunet_transformers.comparison.nnunet.timing import Training
from nnunet_transformers.comparison.reporting.inputs import ReportInput

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


def provenance(given: ReportInput, trainings: Mapping[str, Training]) -> list[tuple[str, str]]:
    """Facts as (name, value), all of them derived from files and from this machine."""
    results = given.results
    entries = [("dataset", results.dataset), ("results folder", str(results.folder.resolve()))]
    entries += [
        (name, f"{_about(path)}SHA-256 {sha256(path)}")
        for name, path in {
            "dataset.json": results.baseline.folder / "dataset.json",
            "dataset_fingerprint.json": _fingerprint(given),
            "splits_final.json": given.data.splits,
        }.items()
        if path and path.is_file()
    ]
    for model in results.models:
        plans = model.folder / "plans.json"
        if plans.is_file():
            name = given.names.get(model.identifier, model.identifier)
            entries.append((f"plans of {name}", f"{model.plans}, SHA-256 {sha256(plans)}"))
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


def configuration(model: Model) -> dict[str, Any]:
    """The model's configuration in its plans, with what it inherits; empty without the plans."""
    plans = load_json(model.folder / "plans.json")
    if not isinstance(plans, dict) or "configurations" not in plans:
        return {}
    return configuration_of(plans, model.configuration) or {}


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


def _fingerprint(given: ReportInput) -> Path:
    copied = given.results.baseline.folder / "dataset_fingerprint.json"
    return copied if copied.is_file() or not given.data.preprocessed else given.data.preprocessed / copied.name


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
