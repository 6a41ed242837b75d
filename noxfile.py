"""The package as a user installs it, on the Pythons and releases of torch that it claims: `nox`; `nox --list`.

Each session installs the wheel afresh, finds the trainers through the start-up file, runs nnU-Net's commands end to end
and compiles every network (tests/contract/test_compiled.py), on torch 2.6 and later; older ones train in eager mode.
With the oldest torch comes the oldest release of everything else that pyproject.toml allows.
"""

import os
import shutil

import nox

nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = True

OLDEST, NEWEST = "2.4.1", "newest"
PAIRS = [("3.10", OLDEST), ("3.10", "2.6.0"), ("3.12", "2.8.0"), ("3.12", "2.11.0"), ("3.13", NEWEST)]
# By name, where there is a Python 3.14 that nnU-Net's own dependencies install on.
MORE_PAIRS = [("3.14", NEWEST)]

nox.options.sessions = [f"torch(python='{python}', torch='{torch}')" for python, torch in PAIRS]

ALWAYS = [
    "tests/training/test_eager_fallback.py",
    "tests/test_end_to_end.py::test_nnunets_commands_plan_train_validate_and_predict",
    "tests/networks/test_operators.py",
    "tests/networks/test_fused_norm.py",  # each torch has a Triton of its own
]
# What is run, and which marked tests with it, by release of torch; a later one runs all.
EAGER = ["tests/contract/test_networks.py", "tests/networks/test_windows.py"]
COMPILED = ["tests/contract/test_compiled.py"]
# What else is made of the packages whose oldest releases are there; what needs MONAI is left out.
OTHER_PACKAGES = [
    "tests/comparison/metrics",
    "--ignore=tests/comparison/metrics/test_case.py",
    "tests/comparison/statistics",
    "tests/comparison/reporting/test_files.py",
    "tests/dataset_conversion/alignment",
    "tests/dataset_conversion/qc",
    "tests/dataset_conversion/checks",
    "tests/dataset_conversion/test_convert.py",
    "tests/phantom/test_phantom_parts.py",
]
RUNS = {
    OLDEST: ([*EAGER, *OTHER_PACKAGES], "not matrix"),
    "2.6.0": (COMPILED, "not inductor"),
    "2.8.0": (COMPILED, "not matrix"),
}
# Of what is run: torch 2.4's own torch.export fails, only later ones trace for a GPU that is not there, and SciPy's
# bootstrap, which ours is compared with, had no argument rng.
NOT_RUN = {OLDEST: "export or of_a_gpu or scipys_percentile_interval"}


@nox.session
@nox.parametrize(("python", "torch"), PAIRS + MORE_PAIRS)
def torch(session: nox.Session, torch: str) -> None:
    """Install the wheel with this torch and follow a user's path."""
    session.install(
        ".[phantom]" if torch == OLDEST else ".",
        "torch" if torch == NEWEST else f"torch=={torch}",
        *("hypothesis>=6.100", "pytest>=8", "pytest-xdist>=3.5"),
        f"--resolution={'lowest-direct' if torch == OLDEST else 'highest'}",
    )
    session.run("python", "-c", "import torch; print(torch.__version__, torch.backends.cpu.get_cpu_capability())")
    tests, marked = RUNS.get(torch, (COMPILED, "matrix or not matrix"))
    # Not `python -m pytest`, which would put the source tree in front of what was installed.
    session.run(
        *("pytest", "-n", "2", "-q", "-m", marked, "-k", f"not ({NOT_RUN.get(torch, 'of_a_gpu')})"),
        *ALWAYS,
        *tests,
        *session.posargs,
    )
    if os.environ.get("CI"):
        shutil.rmtree(session.virtualenv.location)  # PyTorch with what it needs of CUDA takes 6 GB in each
