"""A net under torch.compile: where compiling fails, the run goes on in eager mode and says so in one line.

nnU-Net compiles the network (and the Dice loss) by itself. What fails then fails in the first forward or backward pass
of a shape or mode, or at any later one, and differs between releases of PyTorch and between GPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Report = Callable[[str], object]

_LONGEST_REASON = 300  # characters; PyTorch's messages run over pages


class EagerFallback:
    """Modules that nnU-Net compiles, and that all leave the compiled path when one of them fails there.

    Where no gradient is needed (validation, prediction) a failed call is made again in eager mode at once. Where one
    is, it may be the backward pass that fails, long after the call: the training step is tried as a whole (`tried`).

    Args:
        report: takes the line that says what happened.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        self.is_eager = False
        self.is_used = False

    def guard(self, module: nn.Module) -> None:
        """Put the net under a module; compiled or not, before or after, it and its weights stay as they are."""
        self.is_used = True
        run, run_eagerly = module._call_impl, torch.compiler.disable(module._call_impl)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.is_eager:
                return run_eagerly(*args, **kwargs)
            try:
                return run(*args, **kwargs)
            except Exception as error:
                if torch.is_grad_enabled() or _is_out_of_memory(error):
                    raise
                # Here too where the fault is the input's and not the compiler's: then this raises it again, as it is.
                output = run_eagerly(*args, **kwargs)
                self.give_up_compiling(error)
                return output

        # What nn.Module calls in place of its own `__call__` once it is set, as `Module.compile` does; a copy or a
        # pickle of the module does not have it. This frame is the compiler's to skip, not what it calls.
        module._compiled_call_impl = torch.compiler.disable(call, recursive=False)

    def give_up_compiling(self, error: Exception) -> None:
        """From now on every guarded module runs in eager mode."""
        self.is_eager = True
        self.report(
            "torch.compile failed, going on in eager mode: slower, with the same result and nothing lost "
            f"({one_line(error)})"
        )

    def tried(self, step: Callable[[], Any], network: nn.Module, start_again: Callable[[], object]) -> Any:
        """The result of a training step, made once more in eager mode, from the same state, if it fails compiled.

        Args:
            step: computes gradients and, last of all, changes the weights.
            network: with the buffers that the step may have changed when it fails.
            start_again: called before the step is made again.
        """
        if self.is_eager or not self.is_used:
            return step()
        restore = _random_state_and_buffers(network)
        try:
            return step()
        except Exception as error:
            if _is_out_of_memory(error):
                raise
            restore()
            self.is_eager = True
            try:
                start_again()
                result = step()
            except Exception:
                self.is_eager = False  # the fault was not the compiler's
                raise
            self.give_up_compiling(error)
            return result


def one_line(error: Exception) -> str:
    """What kind of error it is and the beginning of what it says."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"


def _is_out_of_memory(error: Exception) -> bool:
    """The GPU's memory is full: eager mode needs more of it, not less."""
    return isinstance(error, torch.cuda.OutOfMemoryError)


def _random_state_and_buffers(network: nn.Module) -> Callable[[], None]:
    """Keeps what a forward pass changes beside gradients; the result puts it back."""
    cpu, cuda = torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    buffers: list[tuple[Tensor, Tensor]] = [(buffer, buffer.clone()) for buffer in network.buffers()]

    def restore() -> None:
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda)
        for buffer, kept in buffers:
            buffer.copy_(kept)

    return restore
