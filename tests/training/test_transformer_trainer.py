from __future__ import annotations

import pytest
import torch

from nnunet_transformers.training.transformer_trainer import reason_not_to_compile


@pytest.mark.parametrize(
    ("version", "compiles"),
    [("2.4.1+cu121", False), ("2.5.1", False), ("2.6.0+cu124", True), ("2.11.0", True), ("3.0.0a0+git1", True)],
)
def test_torch_is_asked_to_compile_from_the_oldest_release_that_does(version, compiles, monkeypatch):
    monkeypatch.setattr(torch, "__version__", version)
    assert (not reason_not_to_compile()) == compiles


def test_a_torch_that_knows_no_compiler_here_is_not_asked_again(monkeypatch):
    def refuse(_: object) -> None:
        raise RuntimeError("Dynamo is not supported on\nPython 3.15+")

    monkeypatch.setattr(torch, "__version__", "2.15.0")
    monkeypatch.setattr(torch, "compile", refuse)
    assert reason_not_to_compile() == "RuntimeError: Dynamo is not supported on Python 3.15+"
