"""Run one of nnU-Net's commands as if the machine had fewer CPU cores.

    python -m nnunet_transformers.comparison.nnunet.few_cores 1 nnUNetv2_train 201 3d_fullres 0 -device cpu

On a CPU nnU-Net sets as many threads as there are cores, in each of its processes. Two trainings side by side on two
cores then spend most of their time waiting for each other's threads. Python 3.13 has PYTHON_CPU_COUNT for this, older
ones have nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import metadata


def main(arguments: list[str]) -> None:
    cores = int(arguments[0])
    os.cpu_count = lambda: cores
    run_script(arguments[1:])


def run_script(command: Sequence[str]) -> None:
    """Run a command of an installed package in this process."""
    scripts = list(metadata.entry_points(group="console_scripts", name=command[0]))
    if not scripts:
        sys.exit(f"{command[0]} is not installed in {sys.prefix}")
    if command[0].startswith("nnUNetv2_plan") and os.environ.get("nnUNet_n_proc_DA") == "0":
        os.environ["nnUNet_n_proc_DA"] = "1"  # which the planner takes for a number of threads
    sys.argv = list(command)
    scripts[0].load()()


if __name__ == "__main__":
    main(sys.argv[1:])
