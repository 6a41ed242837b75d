"""A compiled network beside an eager copy, on the path of a user's run: what the contract tests and gpu.py share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

# Largest differences: of logits in units of the largest logit and 1, of gradients in units of their norm.
BOUNDS = {"logits": 0.02, "gradients": 0.05}
BOUNDS_OF_FLOAT32 = {"logits": 1e-3, "gradients": 1e-2}


class SideBySide:
    """In the modes nnU-Net puts a network into, compiled and eager give the same, with one graph for each.

    Args:
        compiled: a network as torch.compile returns it.
        eager: the same network, with deep supervision.
        dtype: of autocast; in float16 the loss is scaled, as nnU-Net scales it.

    Attributes:
        modes: every mode and size it has been in; each has a graph of its own.
        largest: differences so far.
    """

    def __init__(self, compiled: nn.Module, eager: nn.Module, dtype: torch.dtype) -> None:
        self.compiled, self.eager, self.dtype = compiled, eager, dtype
        self.device = next(eager.parameters()).device.type
        self.scaler = torch.amp.GradScaler(self.device, init_scale=2.0**10, enabled=dtype == torch.float16)
        self.modes: set[tuple[object, ...]] = set()
        self.largest = {"logits": 0.0, "gradients": 0.0}
        counters.clear()

    def follow(self, patches: Tensor, larger: Tensor) -> None:
        """The whole path: train, validate, train, predict a tile, then one of another size, train again.

        Args:
            patches: a batch of images.
            larger: one image of another size.
        """
        self.train(patches)
        self.validate(patches)
        self.train(patches)
        self.predict(patches[:1])
        self.predict(larger)
        self.predict(patches[:1])
        self.train(patches)

    def train(self, image: Tensor) -> None:
        """A training step up to its gradients, with deep supervision."""
        logits, gradients = [], []
        for network in (self.compiled, self.eager):
            network.train().zero_grad()
            with self.autocast():
                logits.append(network(image))
                loss = sum(x.float().square().mean() for x in logits[-1])
            self.scaler.scale(loss).backward()
            gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
            network.zero_grad()
        self.compare("logits", [self.differences(*pair) for pair in zip(*logits, strict=True)])
        difference = (gradients[0] - gradients[1]).norm() / gradients[1].norm()
        self.compare("gradients", [float(difference)])
        self.count("train", image)

    def validate(self, image: Tensor) -> None:
        with torch.no_grad(), self.autocast():
            logits = self.compiled.eval()(image), self.eager.eval()(image)
        self.compare("logits", [self.differences(*pair) for pair in zip(*logits, strict=True)])
        self.count("validate", image)

    def predict(self, image: Tensor) -> None:
        """As nnU-Net's predictor does: one tile at a time, without deep supervision."""
        with self.without_deep_supervision(), torch.inference_mode(), self.autocast():
            difference = self.differences(self.compiled.eval()(image), self.eager.eval()(image))
        self.compare("logits", [difference])
        self.count("predict", image)

    @contextlib.contextmanager
    def without_deep_supervision(self) -> Iterator[None]:
        decoders = [network.get_submodule("decoder") for network in (self.compiled._orig_mod, self.eager)]
        for decoder in decoders:
            decoder.deep_supervision = False
        yield
        for decoder in decoders:
            decoder.deep_supervision = True

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, self.dtype, enabled=self.dtype != torch.float32)

    @staticmethod
    def differences(ours: Tensor, theirs: Tensor) -> float:
        assert ours.shape == theirs.shape
        ours, theirs = ours.detach().float(), theirs.detach().float()
        return float((ours - theirs).abs().max() / (theirs.abs().max() + 1))

    def compare(self, what: str, differences: Sequence[float]) -> None:
        bounds, largest = BOUNDS_OF_FLOAT32 if self.dtype == torch.float32 else BOUNDS, max(differences)
        assert largest < bounds[what], f"{what} differ by {largest}"  # nor may they be NaN
        self.largest[what] = max(self.largest[what], largest)

    def count(self, mode: str, image: Tensor) -> None:
        self.modes.add((mode, image.shape))
        assert counters["stats"]["unique_graphs"] == len(self.modes), dict(counters["stats"])
        assert not counters["graph_break"], dict(counters["graph_break"])
