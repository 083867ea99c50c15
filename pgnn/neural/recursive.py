"""Networks along trees."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pgnn.errors import ModelError

Tree = int | tuple["Tree", ...]
"""The number of a leaf, or the subtrees of a node."""


class Recursive(nn.Module):
    r"""One function that makes a node of a tree of its children, from the leaves to the root.

    .. math:: h = f(W [h_1; \dots; h_k] + b)

    A chain ``(((0, 1), 2), 3)`` makes it a simple recurrent network.

    Args:
        size: Numbers of a node.
        children: How many each inner node has.
        activation: :math:`f`.

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
            leaves: ``(..., N, size)``.
            tree: Nested tuples of numbers of leaves.

        Raises:
            ModelError: If a node has another number of children, or there is no such leaf.
        """
        stack: list[tuple[Tree, bool]] = [(tree, False)]
        done: list[Tensor] = []
        while stack:  # trees may be deeper than Python's own stack
            node, has_children = stack.pop()
            if isinstance(node, int):
                if not -leaves.shape[-2] <= node < leaves.shape[-2]:
                    raise ModelError(f"a tree of {leaves.shape[-2]} leaves has no leaf {node}")
                done.append(leaves[..., node, :])
            elif has_children:
                children = [done.pop() for _ in node][::-1]
                done.append(self.activation(self.linear(torch.cat(children, -1))))
            elif len(node) != self.arity:
                raise ModelError(f"a node has {self.arity} children, got {len(node)}: {node}")
            else:
                stack.append((node, True))
                stack.extend((child, False) for child in reversed(node))
        return done[0]
