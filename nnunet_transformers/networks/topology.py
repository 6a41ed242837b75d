"""The stages of a plan: what every network takes its shape from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dynamic_network_architectures.building_blocks.helper import convert_conv_op_to_dim
from torch import nn

PerAxis = int | Sequence[int]
Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Topology:
    """Strides and kernels of each stage and axis, full resolution first.

    Attributes:
        strides: stride into each stage; 1 for the first.
        kernel_sizes: kernel of the convolutions at each stage.
    """

    strides: tuple[Sizes, ...]
    kernel_sizes: tuple[Sizes, ...]

    @classmethod
    def from_plan(
        cls,
        conv_op: type[nn.Module],
        n_stages: int,
        strides: int | Sequence[PerAxis],
        kernel_sizes: int | Sequence[PerAxis],
    ) -> Topology:
        """From the arguments as they stand in a plan.

        Args:
            conv_op, n_stages, strides, kernel_sizes: those of dynamic-network-architectures' networks.

        Raises:
            ValueError: a list of another length, or a first stage that is not full resolution.
        """
        dims = convert_conv_op_to_dim(conv_op)
        topology = cls(
            strides=per_stage_and_axis("strides", strides, n_stages, dims),
            kernel_sizes=per_stage_and_axis("kernel_sizes", kernel_sizes, n_stages, dims),
        )
        if any(s != 1 for s in topology.strides[0]):
            raise ValueError(f"the first stage is full resolution, the plan gives it stride {topology.strides[0]}")
        return topology

    @property
    def dims(self) -> int:
        return len(self.strides[0])

    @property
    def n_stages(self) -> int:
        return len(self.strides)

    def until(self, deepest: int) -> Topology:
        """The stages from full resolution to this one."""
        return Topology(self.strides[: deepest + 1], self.kernel_sizes[: deepest + 1])

    def stride_between(self, finer: int, coarser: int) -> Sizes:
        """Stride per axis from the map of one stage to that of a coarser one."""
        return total_stride(self.strides[finer + 1 : coarser + 1], self.dims)


def total_stride(strides: Sequence[Sequence[int]], dims: int) -> Sizes:
    """Product of strides, per axis; 1 for none."""
    return tuple(math.prod(stride[axis] for stride in strides) for axis in range(dims))


def per_stage(name: str, value: int | Sequence[Any], n_stages: int) -> list[Any]:
    """One entry per stage, where an int stands for all.

    Raises:
        ValueError: a list of another length; `name` says of what.
    """
    values = [value] * n_stages if isinstance(value, int) else list(value)
    if len(values) != n_stages:
        raise ValueError(f"{name} needs {n_stages} entries, got {len(values)}: {values}")
    return values


def per_stage_and_axis(name: str, value: int | Sequence[PerAxis], n_stages: int, dims: int) -> tuple[Sizes, ...]:
    """One positive size per stage and axis, where an int stands for all stages or all axes.

    Raises:
        ValueError: a list of another length, or a size below 1; `name` says of what.
    """
    sizes = tuple((v,) * dims if isinstance(v, int) else tuple(v) for v in per_stage(name, value, n_stages))
    if any(len(size) != dims or min(size) < 1 for size in sizes):
        raise ValueError(f"{name} needs {dims} positive sizes per stage, got {sizes}")
    return sizes
