"""The whole comparison in minutes on two CPU cores: phantom, conversion, cross-validation of two trainers, report.

Every step is a command a user can repeat on real data; the report lists them. What differs from a real experiment is in
`DemoSettings`: few small subjects, a coarse target spacing, a narrow network, short trainings.

A second run skips what the first one finished: each step is judged by the files it leaves, see `state`.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_transformers.comparison.compare import report_of_results
from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.experiment.model import Folders
from nnunet_transformers.comparison.nnunet import commands
from nnunet_transformers.comparison.nnunet.commands import Command
from nnunet_transformers.comparison.nnunet.results import Selection, read_json, read_results
from nnunet_transformers.comparison.nnunet.state import (
    FoldState,
    fold_state,
    is_newer,
    load_json,
    remove_broken_checkpoints,
)
from nnunet_transformers.comparison.reporting.inputs import TestSet
from nnunet_transformers.comparison.running.processes import Job, run_jobs

if sys.platform != "win32":
    import fcntl

DATASET_ID = 201
DATASET = "Dataset201_ATLAS"
CONFIGURATION = "3d_fullres"
FOLDS = range(5)
PLANNED = "nnUNetPlans_coarse"
PLANS = "nnUNetPlans_demo"


@dataclass(frozen=True)
class DemoSettings:
    """What makes the demo small.

    Attributes:
        subjects, test_subjects, seed, spacing: of the phantom; spacing in mm.
        target_spacing: mm that nnU-Net resamples to for training; predictions come back on the phantom's own grid.
        width_divisor, batch_size: the network's width is divided, the batch size set, in the plans (`small_plans`).
        epochs, iterations: of the trainings.
        trainers: the baseline first.
    """

    subjects: int = 10
    test_subjects: int = 2
    seed: int = 0
    spacing: float = 3.0
    target_spacing: float = 8.0
    width_divisor: int = 4
    batch_size: int = 2
    epochs: int = 2
    iterations: int = 30
    trainers: tuple[str, ...] = ("nnUNetTrainer", "nnUNetTrainerSwinUNETR")

    @property
    def short_trainers(self) -> list[str]:
        return [f"{trainer}_{self.epochs}epochs_{self.iterations}iterations" for trainer in self.trainers]


@dataclass(frozen=True)
class _Demo:
    """Where everything lies and how commands are run."""

    workdir: Path
    settings: DemoSettings
    lock: int
    started: float

    @property
    def source(self) -> Path:
        return self.workdir / "phantom"

    @property
    def raw(self) -> Path:
        return self.workdir / "nnUNet_raw" / DATASET

    @property
    def preprocessed(self) -> Path:
        return self.workdir / "nnUNet_preprocessed" / DATASET

    @property
    def results(self) -> Path:
        return self.workdir / "nnUNet_results" / DATASET

    @property
    def selected(self) -> Path:
        return self.results / "inference_information.json"

    def fold(self, trainer: str, fold: int) -> Path:
        return self.results / f"{trainer}__{PLANS}__{CONFIGURATION}" / f"fold_{fold}"

    def say(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        print(f"[{minutes:02d}:{seconds:02d}] {text}", file=sys.stderr, flush=True)

    def run(self, named: Sequence[tuple[str, Command]], *, at_once: int = 1, training: bool = False) -> None:
        jobs = [
            Job(
                name,
                executable(command, max(1, _cores() // at_once)),
                self.workdir / "logs" / f"{name.replace(' ', '_')}.log",
                environment(self.workdir, training=training),
            )
            for name, command in named
        ]
        run_jobs(jobs, at_once=at_once, keep_open=[self.lock])


def run_demo(workdir: Path, settings: DemoSettings | None = None) -> Path:
    """Run the demo, or what is left of it, in a folder.

    Args:
        workdir: made if it does not exist; all that the demo writes is in it.
        settings: other than the default ones.

    Returns:
        The report.

    Raises:
        ComparisonError: a step failed, or the folder holds a demo with other settings.
    """
    workdir, settings = Path(workdir).resolve(), settings or DemoSettings()
    workdir.mkdir(parents=True, exist_ok=True)
    with _locked(workdir) as lock:
        demo = _Demo(workdir, settings, lock, time.monotonic())
        _refuse_other_settings(demo)
        _make_data(demo)
        _plan(demo)
        _train(demo)
        _select(demo)
        predictions = _predict(demo)
        demo.say("scores and report")
        return report_of_results(
            DATASET_ID,
            workdir / "report",
            folders=Folders(demo.raw.parent, demo.preprocessed.parent, demo.results.parent),
            test_sets=[predictions],
            remarks=[
                "The subjects are synthetic (ICBM 2009a template with artificial lesions). Scores on them say nothing "
                "about patients."
            ],
            commands_run=_shown(demo),
            jobs=min(2, _cores()),
        )


def environment(workdir: Path, *, training: bool = False) -> dict[str, str]:
    """Variables for nnU-Net's commands: its folders inside the demo's, and few processes.

    Most of a short run's time goes into starting processes, so one is made where nnU-Net's default is eight.
    """
    variables = {name: str(workdir / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    variables["nnUNet_def_n_proc"] = "1"
    if training:
        variables["nnUNet_n_proc_DA"] = "0"  # augment in the training's process; planning does not survive a 0
    return variables


def executable(command: Command, cores: int) -> Command:
    """A command of this package or of nnU-Net for the Python that runs now, whatever PATH holds."""
    if command[0] == "nnunet-transformers":
        return [sys.executable, "-m", "nnunet_transformers.cli", *command[1:]]
    return [sys.executable, "-m", "nnunet_transformers.comparison.nnunet.few_cores", str(cores), *command]


def small_plans(plans: dict[str, Any], settings: DemoSettings) -> dict[str, Any]:
    """nnU-Net's plans for the demo's configuration with a narrower network and a small batch, under the name PLANS.

    Patch, topology and preprocessed data stay as planned.
    """
    small = copy.deepcopy(plans)
    small["plans_name"] = PLANS
    configuration = small["configurations"][CONFIGURATION]
    configuration["batch_size"] = settings.batch_size
    arguments = configuration["architecture"]["arch_kwargs"]
    arguments["features_per_stage"] = [
        max(1, width // settings.width_divisor) for width in arguments["features_per_stage"]
    ]
    return small


def data_commands(settings: DemoSettings, source: Path) -> dict[str, Command]:
    """Phantom and conversion."""
    phantom = ["nnunet-transformers", "phantom", str(source), "--subjects", str(settings.subjects)]
    phantom += ["--test-subjects", str(settings.test_subjects), "--seed", str(settings.seed)]
    phantom += ["--spacing", f"{settings.spacing:g}"]
    convert = ["nnunet-transformers", "convert", "atlas", str(source / "ATLAS_2"), "--dataset-id", str(DATASET_ID)]
    return {"phantom": phantom, "convert": convert}


def plan_command(settings: DemoSettings) -> Command:
    """Planning and preprocessing at the demo's coarse spacing."""
    return commands.plan_and_preprocess(
        DATASET_ID, CONFIGURATION, processes=1, spacing=[settings.target_spacing] * 3, plans=PLANNED
    )


def train_commands(settings: DemoSettings, results: Path) -> dict[str, Command]:
    """A training or what is left of it for each fold that is not validated, the slower trainers first."""
    left = {}
    for trainer in reversed(settings.short_trainers):
        for fold in FOLDS:
            state = fold_state(results / f"{trainer}__{PLANS}__{CONFIGURATION}" / f"fold_{fold}")
            if state is not FoldState.VALIDATED:
                command = commands.train(
                    DATASET_ID, CONFIGURATION, fold, trainer, PLANS, device="cpu", resume=state.value or ""
                )
                left[f"{trainer} fold {fold}"] = command
    return left


def select_command(settings: DemoSettings) -> Command:
    """Selection of the best model or ensemble."""
    return commands.find_best_configuration(DATASET_ID, [CONFIGURATION], settings.short_trainers, [PLANS], processes=1)


def predict_commands(selection: Selection, images: Path, predictions: Path) -> dict[str, tuple[Path, Command]]:
    """What predicts a folder of images with the selected model or ensemble: per step the folder it makes, in order.

    The last folder has the final predictions.
    """
    steps = {}
    is_ensemble = len(selection.models) > 1
    for number, identifier in enumerate(selection.models, start=1):
        trainer, plans, configuration = identifier.split("__")
        output = predictions / (f"model_{number}" if is_ensemble else "model")
        command = commands.predict(
            DATASET_ID, configuration, trainer, plans, images, _partial(output),
            folds=selection.folds, probabilities=is_ensemble, device="cpu", sequential=True,
        )  # fmt: skip
        steps[f"predict with {trainer}"] = (output, command)
    if is_ensemble:
        members = [output for output, _ in steps.values()]
        output = predictions / "ensemble"
        steps["ensemble"] = (output, commands.ensemble(members, _partial(output), processes=1))
    if selection.postprocessing_steps:
        source, output = output, predictions / "postprocessed"
        pickled, plans_file = selection.postprocessing, selection.postprocessing.parent / "plans.json"
        command = commands.apply_postprocessing(source, _partial(output), pickled, plans_file, processes=1)
        steps["postprocessing"] = (output, command)
    return steps


def _make_data(demo: _Demo) -> None:
    steps = data_commands(demo.settings, demo.source)
    # Both commands leave a complete folder or none.
    if not (demo.source / "phantom.tsv").is_file() and not (demo.raw / "dataset.json").is_file():
        demo.say(f"phantom of {demo.settings.subjects} + {demo.settings.test_subjects} subjects")
        demo.run([("phantom", steps["phantom"])])
    if not (demo.raw / "dataset.json").is_file():
        demo.say("conversion to nnU-Net's raw format")
        demo.raw.parent.mkdir(exist_ok=True)
        demo.run([("convert", steps["convert"])])


def _plan(demo: _Demo) -> None:
    # The small plans are written last: where they are, preprocessing is complete.
    plans = demo.preprocessed / f"{PLANS}.json"
    if load_json(plans) is not None:
        return
    demo.say("planning and preprocessing")
    shutil.rmtree(demo.preprocessed, ignore_errors=True)
    demo.preprocessed.parent.mkdir(exist_ok=True)
    demo.run([("plan and preprocess", plan_command(demo.settings))])
    small = small_plans(read_json(demo.preprocessed / f"{PLANNED}.json"), demo.settings)
    _partial(plans).write_text(json.dumps(small, indent=4))
    _partial(plans).replace(plans)


def _train(demo: _Demo) -> None:
    for trainer in demo.settings.short_trainers:
        for fold in FOLDS:
            for path in remove_broken_checkpoints(demo.fold(trainer, fold)):
                demo.say(f"removed a checkpoint that was cut off: {path}")
    left = train_commands(demo.settings, demo.results)
    if not left:
        return
    total = len(demo.settings.short_trainers) * len(FOLDS)
    at_once = min(2, _cores())
    demo.say(f"training: {len(left)} of {total} folds left, {at_once} at once")
    (demo.workdir / "nnUNet_results").mkdir(exist_ok=True)
    demo.run(list(left.items()), at_once=at_once, training=True)


def _select(demo: _Demo) -> None:
    folds = [demo.fold(trainer, fold) for trainer in demo.settings.short_trainers for fold in FOLDS]
    if load_json(demo.selected) is None or not is_newer(
        demo.selected, [fold / "validation" / "summary.json" for fold in folds]
    ):
        demo.say("selection of the best model or ensemble")
        demo.run([("find best configuration", select_command(demo.settings))])


def _predict(demo: _Demo) -> TestSet:
    selection = read_results(demo.results, demo.preprocessed / "splits_final.json").selection
    assert selection is not None
    steps = predict_commands(selection, demo.raw / "imagesTs", demo.workdir / "predictions")
    left = {name: step for name, step in steps.items() if not is_newer(step[0], [demo.selected])}
    if left:
        demo.say(f"prediction of {demo.settings.test_subjects} held-out cases")
    models = {name: step for name, step in left.items() if name.startswith("predict")}
    for together in (models, *({name: step} for name, step in left.items() if name not in models)):
        for output, _ in together.values():
            shutil.rmtree(output, ignore_errors=True)
            shutil.rmtree(_partial(output), ignore_errors=True)
            _partial(output).mkdir(parents=True)
        if together:
            demo.run([(name, command) for name, (_, command) in together.items()], at_once=min(2, _cores()))
        for output, _ in together.values():
            _partial(output).replace(output)
    final = list(steps.values())[-1][0]
    name = selection.models[0] if len(steps) == 1 else "selected by nnU-Net"
    return TestSet("held-out", {name: final}, _test_references(demo))


def _test_references(demo: _Demo) -> Path:
    """The hidden masks of the phantom, named like the predictions."""
    references = demo.workdir / "test_references"
    references.mkdir(exist_ok=True)
    for image in sorted((demo.raw / "imagesTs").glob("*_0000.nii.gz")):
        case = image.name.removesuffix("_0000.nii.gz")
        for mask in (demo.source / "hidden_test_masks").glob(f"{case}_*.nii.gz"):
            shutil.copyfile(mask, references / f"{case}.nii.gz")
    return references


def _shown(demo: _Demo) -> list[str]:
    """The commands of the whole demo, with paths relative to its folder."""
    settings = demo.settings
    everything = [
        *data_commands(settings, demo.source).values(),
        plan_command(settings),
        *train_commands(settings, demo.workdir / "nothing finished").values(),
        select_command(settings),
    ]
    selection = read_results(demo.results).selection
    steps = predict_commands(selection, demo.raw / "imagesTs", demo.workdir / "predictions") if selection else {}
    everything += [[part.replace(".partial", "") for part in command] for _, command in steps.values()]
    relative = [commands.as_text([part.replace(f"{demo.workdir}/", "") for part in command]) for command in everything]
    narrow = (
        f"# {PLANS}.json: {PLANNED}.json with that name, features_per_stage divided by {settings.width_divisor} and "
        f"batch_size {settings.batch_size}. Not for real data."
    )
    exports = [f"export {name}={name}" for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")]
    return [f"cd {demo.workdir}", *exports, *relative[:3], narrow, *relative[3:]]


def _refuse_other_settings(demo: _Demo) -> None:
    path = demo.workdir / "demo.json"
    here = json.loads(json.dumps(asdict(demo.settings)))
    there = load_json(path)
    if there is None:
        if any(entry.name not in (".lock", _partial(path).name) for entry in demo.workdir.iterdir()):
            raise ComparisonError(
                f"{demo.workdir} is not empty and not the folder of a demo",
                "Choose another folder. Nothing was changed.",
                "NOT_A_DEMO",
            )
        _partial(path).write_text(json.dumps(here, indent=2) + "\n")
        _partial(path).replace(path)
    elif there != here:
        raise ComparisonError(
            f"{demo.workdir} holds a demo with other settings, see {path}",
            "Choose another folder, or delete this one. Nothing was changed.",
            "OTHER_SETTINGS",
        )


@contextmanager
def _locked(workdir: Path) -> Iterator[int]:
    """Wait until no other demo works in the folder, and keep others out.

    The demo's processes inherit the lock: after a kill -9 of the demo itself, the next run waits for the trainings it
    left, and uses what they finish.
    """
    with (workdir / ".lock").open("w") as file:
        if sys.platform != "win32":
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(
                    f"Waiting for another demo, or what an interrupted one left running, in {workdir}", file=sys.stderr
                )
                fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
