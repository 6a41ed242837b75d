"""The command `nnunet-transformers`: each of its commands calls one function that a script can call too."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import nnunet_transformers
from dataset_conversion import commands as conversion
from nnunet_transformers.common.problems import UserError
from nnunet_transformers.comparison import compare_commands


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 where `doctor` finds something to mend, 2 for an error of the user's."""
    with warnings.catch_warnings():
        if not sys.warnoptions:  # other packages' warnings are not for who types this; -W or PYTHONWARNINGS shows them
            warnings.simplefilter("ignore")
        return _run(_parser().parse_args(argv))


def _run(arguments: argparse.Namespace) -> int:
    try:
        code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output, as `head` does, has seen enough; Python flushes what is left of it at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if arguments.debug or not isinstance(error, UserError):
            raise
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet-transformers",
        description="Transformer trainers for stock nnU-Net v2: data in, comparison out. "
        "Training itself is nnU-Net's own nnUNetv2_train with -tr nnUNetTrainerSwinUNETR.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {nnunet_transformers.__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_list(commands)
    conversion.add_commands(commands, _command)
    _add_phantom(commands)
    compare_commands.add_commands(commands, _command)
    _add_demo(commands)
    _add_doctor(commands)
    _add_env(commands)
    return parser


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default not in (None, False, [], "") else action.help


def _command(commands: argparse._SubParsersAction, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example: {example}",
        formatter_class=_HelpFormatter,
    )


def _add_list(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands, "list", "list the trainers with their networks, papers and defaults", "nnunet-transformers list"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for a script to read")
    form.add_argument("--markdown", action="store_true", help="as the page docs/networks.md")
    parser.set_defaults(run=_list)


def _list(arguments: argparse.Namespace) -> int:
    from nnunet_transformers.training import registry

    if arguments.json:
        print(json.dumps([entry.as_dict() for entry in registry.registry()], indent=2))
    else:
        print((registry.as_markdown() if arguments.markdown else registry.as_text()).rstrip())
    return 0


def _add_phantom(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "phantom",
        "write synthetic stroke data that look like ATLAS R2.0",
        "nnunet-transformers phantom phantom --subjects 10 --spacing 3",
    )
    parser.add_argument("destination", type=Path, metavar="DEST", help="a new folder")
    parser.add_argument("--subjects", type=int, required=True, metavar="N", help="with lesion masks")
    parser.add_argument(
        "--test-subjects", type=int, default=0, metavar="N", help="without; masks in hidden_test_masks/"
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same files")
    parser.add_argument("--spacing", type=float, default=1.0, metavar="MM", help="voxel size; 3 is quick on a CPU")
    parser.add_argument(
        "--lesions", type=Path, metavar="DIR", help="take lesion shapes from the NIfTI masks (MNI space) in this folder"
    )
    parser.set_defaults(run=_phantom)


def _phantom(arguments: argparse.Namespace) -> int:
    from nnunet_transformers.phantom import write_phantom

    folder = write_phantom(
        arguments.destination,
        subjects=arguments.subjects,
        test_subjects=arguments.test_subjects,
        seed=arguments.seed,
        spacing=arguments.spacing,
        lesions=arguments.lesions,
    )
    print(folder)
    return 0


def _add_demo(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "demo",
        "run the whole comparison on a small phantom; run it again to resume",
        "nnunet-transformers demo --workdir demo",
    )
    parser.add_argument("--workdir", type=Path, default=Path("demo"), metavar="DIR", help="all output goes here")
    parser.set_defaults(run=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from nnunet_transformers.demo import run_demo

    print(run_demo(arguments.workdir))
    return 0


def _add_doctor(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands, "doctor", "tell what is set up, what is not, and how to mend it", "nnunet-transformers doctor"
    )
    parser.add_argument("--json", action="store_true", help="for a script to read")
    parser.set_defaults(run=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from nnunet_transformers.plugin.doctor import examine

    checks = examine()
    if arguments.json:
        print(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    else:
        print("\n".join(map(str, checks)))
    return int(any(check.ok is False for check in checks))


def _add_env(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "env",
        "print the line that makes nnU-Net find our trainers where start-up files are not read",
        'eval "$(nnunet-transformers env)"',
    )
    parser.set_defaults(run=_env)


def _env(arguments: argparse.Namespace) -> int:
    import shlex

    from nnunet_transformers.plugin import autostart

    os.environ.pop(autostart.OPT_OUT, None)
    autostart.activate()
    print(f"export {autostart.VARIABLE}={shlex.quote(os.environ[autostart.VARIABLE])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
