"""The command line: what a user sees, and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from helpers import failing_backends
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_transformers.cli import main
from nnunet_transformers.networks.swin_unetr import SwinUNETR
from nnunet_transformers.plugin.autostart import TRAINER_FOLDER, VARIABLE
from nnunet_transformers.training import transformer_trainer
from nnunet_transformers.training.trainers import trainer_names

COMMANDS = ["list", "convert", "scan", "phantom", "compare", "demo", "doctor", "env"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert f"example: {'eval' if command == 'env' else 'nnunet-transformers'}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", "atlas", "nowhere", "--dataset-id", "201", "--raw-folder", "raw"],
        ["scan", "atlas", "nowhere"],
        ["phantom", "new", "--subjects", "0"],
        ["phantom", "new", "--subjects", "1", "--lesions", "nowhere"],
    ],
)
def test_a_users_mistake_is_exit_code_2_without_a_traceback_and_nothing_is_written(
    arguments, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err
    assert "Traceback" not in captured.err
    assert not captured.out
    assert not any(tmp_path.iterdir())


def test_list_tells_of_every_trainer_its_network_paper_recipe_and_defaults(capsys):
    assert main(["list", "--json"]) == 0
    listed = {entry["trainer"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert set(listed) == set(trainer_names())
    swin = listed["nnUNetTrainerSwinUNETR"]
    assert swin["network"] == "nnunet_transformers.networks.swin_unetr.SwinUNETR"
    assert swin["paper"]["arxiv"] == "2201.01266"
    assert swin["recipe"]["lr"] == 1e-4
    assert swin["defaults"]["feature_size"] == 48
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in [*listed, "feature_size=48", "nnUNet_PrimusV3S_Trainer"])


@pytest.mark.parametrize("module", ["nnunet_transformers.cli", "dataset_conversion"])
@pytest.mark.parametrize("command", [[], ["convert", "atlas"], ["scan", "folder"]], ids=" ".join)
def test_help_is_quick_because_it_loads_nothing_heavy(module, command):
    loads = [sys.executable, "-X", "importtime", "-m", module, *command, "--help"]
    shown = subprocess.run(loads, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in shown.stderr.splitlines()}
    assert "dataset_conversion" in loaded
    assert not loaded & {"torch", "nnunetv2", "numpy", "pandas", "SimpleITK", "nibabel", "jinja2", "yaml"}


@pytest.mark.parametrize("arguments", [["env"], ["list", "--json"]], ids=["a line", "more than a buffer"])
def test_a_reader_that_stops_early_is_no_error(arguments):
    command = [sys.executable, "-m", "nnunet_transformers.cli", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()  # before anything is written, as `head -0`
        error = process.stderr.read()
    assert "BrokenPipeError" not in error
    assert process.returncode == 141


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(Exception, match="nowhere"):
        main(["--debug", "scan", "atlas", str(tmp_path / "nowhere")])


def test_phantom_scan_and_convert_work_together(tmp_path, capsys):
    phantom = ["phantom", str(tmp_path / "phantom"), "--subjects", "5", "--test-subjects", "1", "--spacing", "8"]
    assert main(phantom) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "phantom")
    assert main(["scan", "atlas", str(tmp_path / "phantom" / "ATLAS_2")]) == 0
    table = capsys.readouterr().out.strip().splitlines()
    assert len(table) == 1 + 6
    convert = ["convert", "atlas", str(tmp_path / "phantom" / "ATLAS_2"), "--dataset-id", "201"]
    assert main([*convert, "--raw-folder", str(tmp_path / "raw")]) == 0
    dataset = tmp_path / "raw" / "Dataset201_ATLAS"
    assert capsys.readouterr().out.strip().endswith(str(dataset))
    assert len(json.loads((dataset / "splits_final.json").read_text())) == 5
    assert len(list((dataset / "imagesTs").iterdir())) == 1


def test_doctor_says_what_to_do_about_a_missing_path(monkeypatch, capsys, tmp_path):
    for name in ("nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("nnUNet_raw", raising=False)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "export nnUNet_raw=" in out
    assert "ok  nnUNetTrainerSwinUNETR" in out
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    assert main(["doctor", "--json"]) == 0
    assert {check["name"]: check["ok"] for check in json.loads(capsys.readouterr().out)}["nnUNet_raw"] is True


def test_doctor_knows_that_planning_fails_without_workers(monkeypatch, capsys):
    monkeypatch.setattr("nnunet_transformers.plugin.doctor._training_step", lambda device: iter(()))
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    main(["doctor"])
    assert "nnU-Net's planning fails" in capsys.readouterr().out


def test_doctor_takes_a_training_step_and_says_how_it_went(monkeypatch, capsys):
    def step() -> dict:
        (check,) = [check for check in json.loads(capsys.readouterr().out) if check["name"] == "training step"]
        return check

    main(["doctor", "--json"])
    assert step()["ok"] is True
    with monkeypatch.context() as patch:
        patch.setattr(nnUNetTrainer, "_do_i_compile", lambda self: True)
        patch.setattr(transformer_trainer, "OLDEST_TORCH_TO_COMPILE", "1")
        compile_default = torch.compile
        patch.setattr(torch, "compile", lambda module: compile_default(module, backend=failing_backends.in_backward))
        main(["doctor", "--json"])
        fallen_back = step()
    assert fallen_back["ok"] is None
    assert "in eager mode" in fallen_back["found"]
    assert "planted over two lines" in fallen_back["found"]
    monkeypatch.setattr(SwinUNETR, "forward", failing_backends.fails)
    assert main(["doctor", "--json"]) == 1
    assert step()["found"] == "fails on cpu: PlantedError: planted over two lines"


def test_no_command_prints_the_warnings_of_other_packages():
    command = [sys.executable, "-c", "import sys; from nnunet_transformers.cli import main; sys.exit(main(['list']))"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stderr == ""


def test_doctor_notices_that_nnunet_cannot_find_us(monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, "/elsewhere")
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert f"NO  {VARIABLE}" in out
    assert "NO  nnUNetTrainerSwinUNETR" in out


def test_env_prints_the_line_for_the_shell(monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, "/mine")
    assert main(["env"]) == 0
    assert capsys.readouterr().out.strip() == f"export {VARIABLE}=/mine:{TRAINER_FOLDER}"
