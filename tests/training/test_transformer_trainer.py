from __future__ import annotations

import pytest

from nnunet_transformers.training.transformer_trainer import compiles_with


@pytest.mark.parametrize(
    ("version", "compiles"),
    [("2.4.1+cu121", False), ("2.5.1", False), ("2.6.0+cu124", True), ("2.11.0", True), ("3.0.0a0+git1", True)],
)
def test_torch_is_asked_to_compile_from_the_oldest_release_that_does(version, compiles):
    assert compiles_with(version) == compiles
