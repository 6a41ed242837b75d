"""The start-up hook: tells nnU-Net where the trainers are by extending nnUNet_extTrainer.

`nnunet_transformers.pth`, and on Python >= 3.15 `nnunet_transformers.start` (PEP 829), call `activate` in every process
of the environment. So: standard library only, quick, silent, safe to call twice, and never an exception.
"""

import os

VARIABLE = "nnUNet_extTrainer"
OPT_OUT = "NNUNET_TRANSFORMERS_NO_AUTOSTART"
TRAINER_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_ext")


def activate() -> None:
    """Append our folder to nnUNet_extTrainer, unless the user opted out."""
    try:
        folders = [folder for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder]
        if not os.environ.get(OPT_OUT) and TRAINER_FOLDER not in folders:
            os.environ[VARIABLE] = os.pathsep.join([*folders, TRAINER_FOLDER])
    except Exception:  # Nothing here is worth stopping an interpreter that may not even use nnU-Net.
        pass
