"""The command `compare` of `nnunet-transformers`: check, run, status, evaluate, report."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

AddCommand = Callable[..., argparse.ArgumentParser]

_JOBS = min(4, os.cpu_count() or 1)


def add_commands(commands: argparse._SubParsersAction, add: AddCommand) -> None:
    """Add the command.

    Args:
        commands: where it is added.
        add: makes the parser of a command from that place or another, its name, summary and example.
    """
    compare = add(
        commands,
        "compare",
        "cross-validate several models on one or more datasets, and report",
        "nnunet-transformers compare run atlas.yaml",
    ).add_subparsers(dest="task", required=True, metavar="TASK")

    def task(name: str, summary: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        parser = add(compare, name, summary, f"nnunet-transformers compare {name} atlas.yaml")
        parser.set_defaults(run=run)
        return parser

    parser = task("check", "check an experiment file, and list what would be run", _check)
    parser.add_argument("experiment", type=Path, metavar="YAML", help="the experiment file")
    parser = task("run", "run what is left of an experiment; the same command goes on after an interruption", _run)
    parser.add_argument("experiment", type=Path, metavar="YAML", help="the experiment file")
    parser.add_argument(
        "--print", type=Path, metavar="DIR", dest="scripts", help="write SLURM scripts to this folder, run nothing"
    )
    parser = task("status", "show how far an experiment is, from any terminal, at any time", _status)
    parser.add_argument("experiment", type=Path, metavar="YAML", help="the experiment file")
    parser.add_argument("--json", action="store_true", help="for a script to read")
    parser = task("evaluate", "score what has been predicted so far", _evaluate)
    parser.add_argument("experiment", type=Path, metavar="YAML", help="the experiment file")
    parser.add_argument("--jobs", type=int, default=_JOBS, metavar="N", help="cases at a time")
    parser = task("report", "write the report, of an experiment or of any results folder of nnU-Net's", _report)
    parser.add_argument("experiment", type=Path, nargs="?", metavar="YAML", help="the experiment file")
    group = parser.add_argument_group("without an experiment file")
    group.add_argument("--dataset", type=int, metavar="ID", help="report what nnUNet_results has of this dataset")
    group.add_argument("--trainers", nargs="+", default=[], metavar="NAME", help="those to show (default: all)")
    group.add_argument("--baseline", default="", metavar="NAME", help="compare with this one (default: nnU-Net's own)")
    group.add_argument(
        "--lesion-labels", type=int, nargs="+", default=[], metavar="N", help="those that are lesion, of several labels"
    )
    group.add_argument("--output", type=Path, metavar="DIR", help="folder of the report of --dataset (default: report)")
    parser.add_argument("--jobs", type=int, default=_JOBS, metavar="N", help="cases scored at a time")


def _check(arguments: argparse.Namespace) -> int:
    from nnunet_transformers.comparison.experiment.check import read_experiment
    from nnunet_transformers.comparison.nnunet.commands import as_text
    from nnunet_transformers.comparison.running.disk import probabilities_bytes
    from nnunet_transformers.comparison.running.steps import steps

    experiment = read_experiment(arguments.experiment)
    folders = experiment.nnunet_folders()
    for step in steps(experiment, folders):
        print(f"{'done' if step.is_done() else 'left'}  {step.name}: {as_text(step.command)}")
    if size := probabilities_bytes(experiment, folders):
        print(
            f"Ensembles are made of probabilities, {size / 1e9:.1f} GB in all before nnU-Net compresses them; "
            "ensembles: none keeps none."
        )
    return 0


def _run(arguments: argparse.Namespace) -> int:
    """1 where a step failed: what can be done without it is done."""
    from nnunet_transformers.comparison.compare import report
    from nnunet_transformers.comparison.errors import ComparisonError
    from nnunet_transformers.comparison.experiment.check import read_experiment
    from nnunet_transformers.comparison.experiment.model import Slurm
    from nnunet_transformers.comparison.running.local import run

    experiment = read_experiment(arguments.experiment)
    if isinstance(experiment.where, Slurm) or arguments.scripts:
        return _on_slurm(arguments, experiment)
    outcome = run(experiment)
    print(outcome)
    try:
        for path in report(experiment, _JOBS):
            print(path)
    except ComparisonError as error:
        if outcome.is_complete:
            raise
        print(f"No report yet: {error}", file=sys.stderr)
    return 0 if outcome.is_complete else 1


def _on_slurm(arguments: argparse.Namespace, experiment: object) -> int:
    from nnunet_transformers.common.problems import writing_to
    from nnunet_transformers.comparison.compare import report_step
    from nnunet_transformers.comparison.experiment.file import snapshot
    from nnunet_transformers.comparison.experiment.model import Experiment, Slurm
    from nnunet_transformers.comparison.running.slurm import submit
    from nnunet_transformers.comparison.running.slurm_scripts import SUBMIT, print_scripts
    from nnunet_transformers.comparison.running.steps import steps

    assert isinstance(experiment, Experiment)
    folders = experiment.nnunet_folders()
    settings = experiment.where if isinstance(experiment.where, Slurm) else Slurm(device=experiment.where.device)
    experiment = snapshot(experiment)
    everything = steps(experiment, folders)
    everything.append(report_step(experiment, everything))
    if arguments.scripts:
        scripts = print_scripts(everything, settings, environment=folders.environment())
        with writing_to(arguments.scripts):
            arguments.scripts.mkdir(parents=True, exist_ok=True)
            for name, text in scripts.items():
                (arguments.scripts / name).write_text(text)
        print(f"bash {shlex.quote(str(arguments.scripts / SUBMIT))}" if scripts else "Nothing is left to do.")
        return 0
    submitted = submit(everything, settings, experiment.output, environment=folders.environment())
    for name, queued in submitted.items():
        print(f"{queued.job}  {name}")
    print(f"{len(submitted)} steps submitted; nnunet-transformers compare status {arguments.experiment}")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from nnunet_transformers.comparison.experiment.file import parse_experiment
    from nnunet_transformers.comparison.running.status import as_json, as_text, status

    found = status(parse_experiment(arguments.experiment))
    print(as_json(found) if arguments.json else as_text(found))
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from nnunet_transformers.comparison.compare import evaluate
    from nnunet_transformers.comparison.experiment.check import read_experiment

    for path in evaluate(read_experiment(arguments.experiment), arguments.jobs):
        print(path)
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from nnunet_transformers.comparison.compare import report, report_of_results
    from nnunet_transformers.comparison.errors import ComparisonError
    from nnunet_transformers.comparison.experiment.check import read_experiment

    if (arguments.experiment is None) == (arguments.dataset is None):
        raise ComparisonError(
            "what to report is said twice" if arguments.experiment else "what to report is not said",
            "Give an experiment file or --dataset ID, one of the two.",
            "BAD_OPTION",
        )
    of_results = {
        "--trainers": arguments.trainers,
        "--baseline": arguments.baseline,
        "--lesion-labels": arguments.lesion_labels,
        "--output": arguments.output,
    }
    if arguments.experiment and (given := [option for option, value in of_results.items() if value]):
        raise ComparisonError(
            f"{' and '.join(given)} does not go with an experiment file, which says it",
            f"Change {arguments.experiment}, or give --dataset ID instead of it. Nothing was written.",
            "BAD_OPTION",
        )
    if arguments.experiment:
        paths = report(read_experiment(arguments.experiment), arguments.jobs)
    else:
        paths = [
            report_of_results(
                arguments.dataset,
                arguments.output or Path("report"),
                trainers=arguments.trainers,
                baseline=arguments.baseline,
                lesion_labels=arguments.lesion_labels,
                jobs=arguments.jobs,
            )
        ]
    for path in paths:
        print(path)
    return 0
