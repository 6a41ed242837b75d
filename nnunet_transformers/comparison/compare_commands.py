"""The command `compare` of `nnunet-transformers`: check, run, status, evaluate, report."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from nnunet_transformers.common.command_line import Argument, Command, Group, Option

_JOBS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class Check:
    experiment: Annotated[Path, Argument("YAML", "the experiment file")]


@dataclass(frozen=True)
class Run(Check):
    scripts: Annotated[
        Path | None, Option("write SLURM scripts to this folder, run nothing", name="print", metavar="DIR")
    ] = None


@dataclass(frozen=True)
class Status(Check):
    json: Annotated[bool, Option("for a script to read")] = False


@dataclass(frozen=True)
class Evaluate(Check):
    jobs: Annotated[int, Option("cases at a time", metavar="N")] = _JOBS


@dataclass(frozen=True)
class OfResults:
    """What an experiment file says otherwise."""

    dataset: Annotated[int | None, Option("report what nnUNet_results has of this dataset", metavar="ID")] = None
    trainers: Annotated[tuple[str, ...], Option("those to show (default: all)", metavar="NAME")] = ()
    baseline: Annotated[
        str,
        Option("compare with this one (default: the longest complete training, nnU-Net's own first)", metavar="NAME"),
    ] = ""
    lesion_labels: Annotated[tuple[int, ...], Option("those that are lesion, of several labels", metavar="N")] = ()
    scoring: Annotated[
        Literal["all", "atlas22", "isles22", "isles26"], Option("metrics that rank the models together")
    ] = "all"
    output: Annotated[Path | None, Option("folder of the report of --dataset (default: report)", metavar="DIR")] = None


@dataclass(frozen=True)
class Report:
    experiment: Annotated[Path | None, Argument("YAML", "the experiment file")] = None
    of_results: Annotated[OfResults, Group("without an experiment file")] = field(default_factory=OfResults)
    jobs: Annotated[int, Option("cases scored at a time", metavar="N")] = _JOBS


def _check(arguments: Check) -> int:
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
            f"Probabilities are kept, {size / 1e9:.1f} GB in all before nnU-Net compresses them: ensembles are made of "
            "them (ensembles: none), and PR-AUC is (scoring: isles26)."
        )
    return 0


def _run(arguments: Run) -> int:
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


def _on_slurm(arguments: Run, experiment: object) -> int:
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


def _status(arguments: Status) -> int:
    from nnunet_transformers.comparison.experiment.file import parse_experiment
    from nnunet_transformers.comparison.running.status import as_json, as_text, status

    found = status(parse_experiment(arguments.experiment))
    print(as_json(found) if arguments.json else as_text(found))
    return 0


def _evaluate(arguments: Evaluate) -> int:
    from nnunet_transformers.comparison.compare import evaluate
    from nnunet_transformers.comparison.experiment.check import read_experiment

    for path in evaluate(read_experiment(arguments.experiment), arguments.jobs):
        print(path)
    return 0


def _report(arguments: Report) -> int:
    from nnunet_transformers.comparison.compare import report, report_of_results
    from nnunet_transformers.comparison.errors import ComparisonError
    from nnunet_transformers.comparison.experiment.check import read_experiment

    results = arguments.of_results
    if (arguments.experiment is None) == (results.dataset is None):
        raise ComparisonError(
            "what to report is said twice" if arguments.experiment else "what to report is not said",
            "Give an experiment file or --dataset ID, one of the two.",
            "BAD_OPTION",
        )
    of_results = {
        "--trainers": results.trainers,
        "--baseline": results.baseline,
        "--lesion-labels": results.lesion_labels,
        "--scoring": results.scoring != "all",
        "--output": results.output,
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
        assert results.dataset is not None
        paths = [
            report_of_results(
                results.dataset,
                results.output or Path("report"),
                trainers=results.trainers,
                baseline=results.baseline,
                lesion_labels=results.lesion_labels,
                scoring=results.scoring,
                jobs=arguments.jobs,
            )
        ]
    for path in paths:
        print(path)
    return 0


COMPARE = Command(
    "compare",
    "cross-validate several models on one or more datasets, and report",
    "%(prog)s run atlas.yaml",
    metavar="TASK",
    commands=(
        Command(
            *("check", "check an experiment file, and list what would be run", "%(prog)s atlas.yaml", _check, Check),
        ),
        Command(
            "run",
            "run what is left of an experiment; the same command goes on after an interruption",
            "%(prog)s atlas.yaml",
            _run,
            Run,
        ),
        Command(
            "status",
            "show how far an experiment is, from any terminal, at any time",
            "%(prog)s atlas.yaml",
            _status,
            Status,
        ),
        Command("evaluate", "score what has been predicted so far", "%(prog)s atlas.yaml", _evaluate, Evaluate),
        Command(
            "report",
            "write the report, of an experiment or of any results folder of nnU-Net's",
            "%(prog)s atlas.yaml",
            _report,
            Report,
        ),
    ),
)
