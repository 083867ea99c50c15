"""Recursive networks over trees."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pgnn.errors import ModelError

Tree = int | tuple["Tree", ...]
"""The index of a leaf, or the subtrees of a node."""


class Recursive(nn.Module):
    r"""A function that computes each node of a tree from its children, from the leaves to the root.

    .. math:: h = f(W [h_1; \dots; h_k] + b)

    For a chain ``(((0, 1), 2), 3)`` it is a simple recurrent network.

    Args:
        size: Size of the vector of a node.
        children: Number of children of each inner node.
        activation: Activation :math:`f`.

    References:
        Socher, Manning and Ng (2010), Learning continuous phrase representations and syntactic
        parsing with recursive neural networks.

    Example:
        >>> network = Recursive(4)
        >>> network(torch.zeros(5, 3, 4), ((0, 1), 2)).shape  # of three leaves, in five rows
        torch.Size([5, 4])
    """

    def __init__(
        self, size: int, children: int = 2, activation: Callable[[Tensor], Tensor] = torch.tanh
    ) -> None:
        super().__init__()
        self.out_features, self.arity, self.activation = size, children, activation
        self.linear = nn.Linear(children * size, size)

    def forward(self, leaves: Tensor, tree: Tree) -> Tensor:
        """Return the root, ``(..., size)``.

        Args:
            leaves: ``(..., N, size)`` vectors of the leaves.
            tree: Nested tuples of leaf indices.

        Raises:
            ModelError: If a node has another number of children, or a leaf does not exist.
        """
        stack: list[tuple[Tree, bool]] = [(tree, False)]
        done: list[Tensor] = []
        while stack:  # trees may be deeper than Python's recursion limit
            node, has_children = stack.pop()
            if isinstance(node, int):
                if not -leaves.shape[-2] <= node < leaves.shape[-2]:
                    raise ModelError(
                        f"a leaf must be an index below {leaves.shape[-2]}, got {node!r}"
                    )
                done.append(leaves[..., node, :])
            elif has_children:
                children = [done.pop() for _ in node][::-1]
                done.append(self.activation(self.linear(torch.cat(children, -1))))
            elif len(node) != self.arity:
                raise ModelError(f"a node must have {self.arity} children, got {node!r}")
            else:
                stack.append((node, True))
                stack.extend((child, False) for child in reversed(node))
        return done[0]
