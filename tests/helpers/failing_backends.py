"""Backends of torch.compile that fail, each where one has failed on somebody's GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._dynamo.backends.common import aot_autograd

Backend = Callable[[torch.fx.GraphModule, list[Any]], Callable[..., Any]]


class PlantedError(RuntimeError):
    pass


def fails(*_: Any) -> Any:
    raise PlantedError("planted\nover two lines")


def in_forward(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
    return fails()


def as_it_runs(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
    return fails


in_backward: Backend = aot_autograd(fw_compiler=lambda graph, _: graph, bw_compiler=fails)


def in_backward_as_it_runs(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
    return aot_autograd(
        fw_compiler=lambda graph, _: torch._dynamo.disable(graph),
        bw_compiler=lambda graph, _: torch._dynamo.disable(fails),
    )(graph, inputs)


def at_another_size() -> Backend:
    """Compiles for the image it sees first, and for no other."""
    first: list[torch.Size] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        sizes = [i.shape for i in inputs if isinstance(i, torch.Tensor) and i.ndim > 3 and not i.requires_grad]
        first.extend(sizes[: not first])
        # What has other channels is not an image but logits, on their way into the loss.
        return fails() if any(size[1] == first[0][1] and size != first[0] for size in sizes) else graph

    return backend
