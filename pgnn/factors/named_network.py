"""Networks that are parts of a model by name."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from pgnn.errors import ModelError
from pgnn.factors.network_precision import run
from pgnn.factors.piece import Piece, Settings
from pgnn.factors.variable import Variable


class NamedNetwork(Piece):
    """A torch module under a name, for which :func:`pgnn.load` needs the module's code.

    Reals are cast to the type of the module's numbers.

    Args:
        name: What messages and files call it.
        module: The module, with any arguments.

    Raises:
        ModelError: If it is no module.

    Example:
        >>> NamedNetwork("encoder", nn.Linear(3, 2))(torch.zeros(5, 3)).shape
        torch.Size([5, 2])
    """

    noun = "network"

    def __init__(self, name: Hashable, module: nn.Module) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise ModelError(f"the {name} must be a torch module, got {module!r}")
        self.name, self.module = name, module

    def settings(self) -> Settings:
        """Return the name and the module."""
        return {"name": self.name, "module": self.module}

    @property
    def scope(self) -> tuple[Variable, ...]:
        """None: it accepts any variables."""
        return ()

    @property
    def key(self) -> Hashable:
        """The name."""
        return self.name

    @property
    def like(self) -> Tensor:
        """A tensor of the type and on the device of the module's numbers."""
        numbers = chain(self.module.parameters(), self.module.buffers())
        return next((x for x in numbers if x.is_floating_point()), torch.zeros(()))

    def forward(self, *arguments: Tensor) -> Any:
        """Call the module.

        Raises:
            ModelError: If it does not take these shapes.
        """
        like = self.like
        cast = [x.to(like) if x.is_floating_point() else x.to(like.device) for x in arguments]
        return called(str(self.name), self.module, *cast)


def called(name: str, module: nn.Module, *arguments: Any) -> Any:
    """Call a network of the caller's.

    Args:
        name: What messages call it.
        module: The network.
        *arguments: Tensors, or anything else.

    Raises:
        ModelError: If it does not take tensors of these shapes.
    """
    try:
        return run(module, *arguments)
    except (RuntimeError, ValueError, IndexError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        shapes = ", ".join(str(tuple(x.shape)) for x in arguments if isinstance(x, Tensor))
        raise ModelError(f"the {name} fails for arguments of {shapes}: {error}") from error
