"""The program `nnunet-transformers`: has Ctrl-C in hand before the commands are loaded."""

from __future__ import annotations

import sys

from nnunet_transformers.common import interrupts


def run() -> int:
    interrupts.take_over()
    from nnunet_transformers.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(run())
