"""The start-up hook, in interpreters of their own."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_transformers.plugin.autostart import OPT_OUT, TRAINER_FOLDER, VARIABLE

PRINT_VARIABLE = f"import os; print(os.environ.get({VARIABLE!r}, ''))"


def started(code: str = PRINT_VARIABLE, **environment: str) -> list[str]:
    clean = {name: value for name, value in os.environ.items() if name not in (VARIABLE, OPT_OUT)}
    run = subprocess.run(
        [sys.executable, "-c", code], env={**clean, **environment}, capture_output=True, text=True, check=True
    )
    assert not run.stderr
    return run.stdout.strip().split(os.pathsep)


def test_a_new_interpreter_knows_our_folder():
    assert started() == [TRAINER_FOLDER]


def test_folders_of_the_user_stay_and_come_first():
    assert started(**{VARIABLE: os.pathsep.join(["/mine", "/yours"])}) == ["/mine", "/yours", TRAINER_FOLDER]


def test_a_child_process_does_not_add_it_again():
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {PRINT_VARIABLE!r}])"
    assert started(child) == [TRAINER_FOLDER]


def test_the_user_can_opt_out():
    assert started(**{OPT_OUT: "1"}) == [""]


def test_the_hook_imports_nothing_but_itself():
    modules = started("import sys; print('\\n'.join(sys.modules))")[0].split()
    ours = [m for m in modules if m.startswith("nnunet_transformers")]
    assert ours == ["nnunet_transformers", "nnunet_transformers.plugin", "nnunet_transformers.plugin.autostart"]
    assert not {"torch", "nnunetv2", "numpy", "dataset_conversion"} & set(modules)


def test_the_hook_never_raises(monkeypatch):
    from nnunet_transformers.plugin import autostart

    class Broken(dict):
        def get(self, *_: object) -> str:
            raise RuntimeError

    monkeypatch.setattr(autostart.os, "environ", Broken())
    autostart.activate()


def test_the_hook_costs_less_than_20_ms():
    statement = (
        "import time; start = time.perf_counter(); import nnunet_transformers.plugin.autostart as a; a.activate(); "
        "print(time.perf_counter() - start)"
    )
    # -S leaves the start-up files out, so that the import is timed here.
    environment = {**os.environ, "PYTHONPATH": str(Path(TRAINER_FOLDER).parents[2])}
    seconds = [
        float(subprocess.check_output([sys.executable, "-S", "-c", statement], env=environment)) for _ in range(7)
    ]
    assert statistics.median(seconds) < 0.020


@pytest.mark.parametrize("name", ["nnunet_transformers.pth", "nnunet_transformers.start"])
def test_both_start_up_files_name_a_function_that_exists(name):
    text = (Path(TRAINER_FOLDER).parent / name).read_text()
    module = "nnunet_transformers.plugin.autostart"
    assert text.splitlines() == [
        {"pth": f"import {module}; {module}.activate()", "start": f"{module}:activate"}[name.rsplit(".")[-1]]
    ]


def test_nnunets_look_up_of_other_trainers_does_not_import_ours():
    code = (
        "import sys; from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find; "
        "find('nnUNetTrainer'); print('nnunet_transformers.training.trainers' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip().endswith("False")
