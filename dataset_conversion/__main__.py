"""`python -m dataset_conversion`: the commands `convert` and `scan` without the rest of nnunet-transformers."""

from __future__ import annotations

import sys

from nnunet_transformers.common import interrupts


def run() -> int:
    interrupts.take_over()
    from dataset_conversion.commands import COMMANDS
    from nnunet_transformers.common.command_line import main

    return main(
        COMMANDS,
        prog="python -m dataset_conversion",
        description="From a data folder to nnU-Net raw; the same commands as those of nnunet-transformers.",
    )


if __name__ == "__main__":
    sys.exit(run())
