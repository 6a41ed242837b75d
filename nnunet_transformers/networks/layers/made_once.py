"""Tensors that follow from a shape alone (indices, masks, encodings of positions), made once per shape and device."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def made_once(maxsize: int) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Decorator of a function from shapes and a device to tensors, which keeps its results.

    torch.compile takes them as constants of the graph instead of tracing how they are made. They are no inference
    tensors even where a prediction is the first to need them, so a training may save them for its backward pass.

    Args:
        maxsize: results to keep.
    """

    def decorate(make: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        kept = functools.lru_cache(maxsize)(torch.inference_mode(False)(make))

        @torch.compiler.assume_constant_result
        @functools.wraps(kept)
        def look_up(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            return kept(*args, **kwargs)  # type: ignore[arg-type]  # a ParamSpec cannot say that they are hashable

        return look_up

    return decorate
