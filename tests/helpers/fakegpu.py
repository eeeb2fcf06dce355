"""A GPU that need not be there: tensors on it have a shape and a type, but no content.

What mixes devices raises, and so does what the host would have to wait for.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

GPU = torch.device("cuda", 0)
# What is raised where the host asks for a value.
WAITS = (DataDependentOutputException, RuntimeError)


class Kernels(TorchDispatchMode):
    """Counts what would be launched on the GPU: operations with a result there, but views."""

    def __init__(self) -> None:
        super().__init__()
        self.launched: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        alias = func._schema.returns[0].alias_info if func._schema.returns else None
        is_view = alias is not None and not alias.is_write
        if not is_view and getattr(result, "device", None) == GPU:
            self.launched[func.name()] += 1
        return result

    @property
    def count(self) -> int:
        return sum(self.launched.values())


def backward(loss: torch.Tensor) -> None:
    """Gives every leaf a gradient: autograd's own threads want a driver."""
    nodes, seen = [loss.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            node.variable.grad = torch.empty_like(node.variable)
        nodes.extend(following for following, _ in node.next_functions)


@contextmanager
def fake_gpu() -> Iterator[Kernels]:
    """Within the block all tensors are such. Pinned memory, which they don't have, is any; modules
    are made where they belong, and stay there."""
    with (
        mock.patch.object(torch.Tensor, "backward", backward),
        mock.patch.object(torch, "_fused_sgd_"),  # it has no fake
        mock.patch.object(torch.nn.Module, "to", lambda self, *_, **__: self),
        mock.patch.object(torch.Tensor, "pin_memory", lambda self: self),
        FakeTensorMode(),
        Kernels() as kernels,
    ):
        yield kernels
