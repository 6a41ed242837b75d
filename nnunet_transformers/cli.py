"""The command `nnunet-transformers`: each of its commands calls one function that a script can call too."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from dataset_conversion import commands as conversion
from nnunet_transformers.common import command_line
from nnunet_transformers.common.command_line import Argument, Command, Option
from nnunet_transformers.comparison import compare_commands


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 where `doctor` finds something to mend, 2 for an error of the user's."""
    return command_line.main(
        COMMANDS,
        argv,
        prog="nnunet-transformers",
        description="Transformer trainers for stock nnU-Net v2: data in, comparison out. "
        "Training itself is nnU-Net's own nnUNetv2_train with -tr nnUNetTrainerSwinUNETR.",
    )


@dataclass(frozen=True)
class List:
    form: Annotated[
        Literal["text", "json", "markdown", "variants"],
        Option("for a script to read", name="json", value="json"),
        Option("as the page docs/networks.md", name="markdown", value="markdown"),
        Option(
            "the losses, augmentations, lengths and seeds that any trainer has by name",
            name="variants",
            value="variants",
        ),
    ] = "text"


def _list(arguments: List) -> int:
    if arguments.form == "variants":
        from nnunet_transformers.training import variant_names

        print(variant_names.as_text())
        return 0

    from nnunet_transformers.training import registry

    if arguments.form == "json":
        print(json.dumps([entry.as_dict() for entry in registry.registry()], indent=2))
    else:
        print((registry.as_markdown() if arguments.form == "markdown" else registry.as_text()).rstrip())
    return 0


@dataclass(frozen=True)
class Phantom:
    destination: Annotated[Path, Argument("DEST", "a new folder")]
    subjects: Annotated[int, Option("with lesion masks", metavar="N")]
    test_subjects: Annotated[int, Option("without; masks in hidden_test_masks/", metavar="N")] = 0
    seed: Annotated[int, Option("the same seed gives the same files")] = 0
    spacing: Annotated[float, Option("voxel size; 3 is quick on a CPU", metavar="MM")] = 1.0
    lesion_ml: Annotated[
        tuple[float, ...], Option("draw lesion volumes between these two instead of ATLAS's 0.013 to 400", metavar="ML")
    ] = ()
    lesions: Annotated[
        Path | None, Option("take lesion shapes from the NIfTI masks (MNI space) in this folder", metavar="DIR")
    ] = None


def _phantom(arguments: Phantom) -> int:
    from nnunet_transformers.phantom import VOLUMES_ML, write_phantom

    folder = write_phantom(
        arguments.destination,
        subjects=arguments.subjects,
        test_subjects=arguments.test_subjects,
        seed=arguments.seed,
        spacing=arguments.spacing,
        lesion_ml=arguments.lesion_ml or VOLUMES_ML,
        lesions=arguments.lesions,
    )
    print(folder)
    return 0


@dataclass(frozen=True)
class Demo:
    workdir: Annotated[Path, Option("all output goes here", metavar="DIR")] = Path("demo")


def _demo(arguments: Demo) -> int:
    from nnunet_transformers.demo import run_demo

    print(run_demo(arguments.workdir))
    return 0


@dataclass(frozen=True)
class Doctor:
    json: Annotated[bool, Option("for a script to read")] = False


def _doctor(arguments: Doctor) -> int:
    from nnunet_transformers.plugin.doctor import examine

    checks = examine()
    if arguments.json:
        print(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    else:
        print("\n".join(map(str, checks)))
    return int(any(check.ok is False for check in checks))


def _env(_: None) -> int:
    import shlex

    from nnunet_transformers.plugin import autostart

    os.environ.pop(autostart.OPT_OUT, None)
    autostart.activate()
    print(f"export {autostart.VARIABLE}={shlex.quote(os.environ[autostart.VARIABLE])}")
    return 0


COMMANDS = (
    Command("list", "list the trainers with their networks, papers and defaults", "%(prog)s", _list, List),
    *conversion.COMMANDS,
    Command(
        "phantom",
        "write synthetic stroke data that look like ATLAS R2.0",
        "%(prog)s phantom --subjects 10 --spacing 3",
        _phantom,
        Phantom,
    ),
    compare_commands.COMPARE,
    Command(
        "demo",
        "run the whole comparison on a small phantom; run it again to resume",
        "%(prog)s --workdir demo",
        _demo,
        Demo,
    ),
    Command("doctor", "tell what is set up, what is not, and how to mend it", "%(prog)s", _doctor, Doctor),
    Command(
        "env",
        "print the line that makes nnU-Net find our trainers where start-up files are not read",
        'eval "$(%(prog)s)"',
        _env,
    ),
)


if __name__ == "__main__":
    sys.exit(main())
