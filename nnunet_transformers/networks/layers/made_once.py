"""Tensors that follow from a shape alone (indices, masks), made once per shape and device."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def made_once(maxsize: int) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Decorator of a function from shapes and a device to tensors, which keeps its results.

    Only for use inside the kernels of custom operators (`torch.library.custom_op`): a compiler or an exporter sees the
    operator as one node and never runs its kernel, so what is kept is never a tensor of a trace. The results are no
    inference tensors even where a prediction is the first to need them.

    Args:
        maxsize: results to keep.
    """

    def decorate(make: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        return functools.lru_cache(maxsize)(torch.inference_mode(False)(make))  # type: ignore[return-value]

    return decorate
