"""The wheel, in an environment of its own: nnU-Net's real command finds our trainer."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from nnunet_transformers.plugin.autostart import OPT_OUT, VARIABLE

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and with this environment's other packages but not its start-up files."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    subprocess.run(build, check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    purelib = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    (Path(purelib.strip()) / "zz_other_packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in (VARIABLE, OPT_OUT, "PYTHONPATH")}
    return subprocess.run([str(python), *arguments], env=clean, capture_output=True, text=True, cwd=python.parent)


def test_the_installed_package_is_the_wheels(python):
    found = run(python, "-c", "import nnunet_transformers, dataset_conversion; print(nnunet_transformers.__file__)")
    assert str(python.parents[1]) in found.stdout, found.stderr


def test_every_file_of_the_packages_is_installed(python):
    files = {
        file.relative_to(REPOSITORY).as_posix()
        for package in ("nnunet_transformers", "dataset_conversion")
        for file in (REPOSITORY / package).rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    installed = Path(run(python, "-c", code).stdout.strip())
    start_up = {file for file in files if file.endswith((".pth", ".start"))}  # not in the package, but beside it
    assert [file for file in sorted(files - start_up) if not (installed / file).is_file()] == []


def test_type_checkers_use_the_types_of_both_packages(python):
    code = (
        "from importlib.resources import files\n"
        "print([(files(name) / 'py.typed').is_file() for name in ('nnunet_transformers', 'dataset_conversion')])"
    )
    assert run(python, "-c", code).stdout.strip() == "[True, True]"


def test_nnunets_command_finds_the_trainer(python):
    code = "from nnunetv2.run.run_training import run_training_entry; run_training_entry()"
    arguments = ["999", "3d_fullres", "0", "-device", "cpu", "-tr"]
    ours = run(python, "-c", code, *arguments, "nnUNetTrainerSwinUNETR")
    # It gets as far as looking for the dataset.
    assert "Using trainer 'nnUNetTrainerSwinUNETR'" in ours.stdout, ours.stderr
    assert "Could not find requested nnunet trainer" not in ours.stderr
    other = run(python, "-c", code, *arguments, "nnUNetTrainerNobody")
    assert "Could not find" in other.stdout + other.stderr


def test_doctor_finds_the_trainer(python):
    checks = run(python, "-m", "nnunet_transformers.cli", "doctor")
    assert "ok  nnUNetTrainerSwinUNETR" in checks.stdout, checks.stderr
