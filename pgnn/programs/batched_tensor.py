"""Tensors with a batch of values, one for each of many simultaneous executions of a program."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Transform
from torch.utils._pytree import tree_flatten, tree_unflatten

from pgnn.errors import Unsupported
from pgnn.programs.tracking import READERS, LatentRead, checking

_ATTRIBUTES: tuple[Any, ...] = (
    Tensor.shape,
    Tensor.dtype,
    Tensor.device,
    Tensor.ndim,
    Tensor.layout,
    Tensor.requires_grad,
    Tensor.is_sparse,
)
_ABOUT_SHAPES = {
    *(x.__get__ for x in _ATTRIBUTES),
    Tensor.size,
    Tensor.dim,
    Tensor.ndimension,
    Tensor.numel,
    Tensor.nelement,
    Tensor.is_floating_point,
    Tensor.is_complex,
    Tensor.__len__,
    torch.is_floating_point,
    torch.is_complex,
    torch.numel,
}
"""Functions with the same result in all executions."""


class ExecutionBatch:
    """A batch of executions, which can be resampled.

    Args:
        number: Number of executions.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._ancestors: list[Tensor] = []

    @property
    def generation(self) -> int:
        """Number of resampling steps so far."""
        return len(self._ancestors)

    def replace(self, ancestors: Tensor) -> None:
        """Continue each execution from the state of its ancestor.

        Args:
            ancestors: ``(number,)`` indices of executions.
        """
        self._ancestors.append(ancestors)

    def tensor(self, values: Tensor) -> BatchedTensor:
        """Wrap values ``(number, ...)`` as one tensor of the program."""
        batched: BatchedTensor = values[0].as_subclass(BatchedTensor)
        batched.per_execution, batched.batch, batched.generation = values, self, self.generation
        return batched

    def per_execution(self, value: Tensor) -> Tensor:
        """Return the values ``(number, ...)`` of a tensor in the current executions."""
        if not isinstance(value, BatchedTensor):
            return value.expand(self.number, *value.shape)
        if value.generation != self.generation:
            line = self._ancestors[-1]
            for earlier in reversed(self._ancestors[value.generation : -1]):
                line = earlier[line]
            value.per_execution, value.generation = value.per_execution[line], self.generation
        return value.per_execution


class BatchedTensor(Tensor):
    """A tensor of a program with a different value in each of many executions.

    It has the shape of the tensor of a single execution, and torch operations apply to all of them.
    Reading its value as a number raises :class:`~pgnn.programs.tracking.LatentRead`, because the
    value differs. After :meth:`ExecutionBatch.replace` it takes the values of the ancestors, which
    are gathered at its next use.
    """

    per_execution: Tensor
    batch: ExecutionBatch
    generation: int

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Apply a function to all executions at once."""
        if func in _ABOUT_SHAPES:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        if func in READERS:
            if not checking():
                raise LatentRead(frozenset(), READERS[func])
            with torch._C.DisableTorchFunctionSubclass():  # inspect a single execution
                return func(args[0].batch.per_execution(args[0])[0], *args[1:], **(kwargs or {}))
        leaves, form = tree_flatten((args, kwargs or {}))
        places = [k for k, x in enumerate(leaves) if isinstance(x, BatchedTensor)]
        batch = leaves[places[0]].batch
        batched = [batch.per_execution(leaves[k]) for k in places]
        with torch._C.DisableTorchFunctionSubclass():
            return _in_each(func, leaves, form, places, batched, batch)


def _in_each(
    func: Any,
    leaves: list[Any],
    form: Any,
    places: list[int],
    batched: list[Tensor],
    batch: ExecutionBatch,
) -> Any:
    """Apply a function to each execution; values other than tensors are shared by all."""
    shape: Any = None
    results: list[Any] = []

    def call(*values: Tensor) -> tuple[Tensor, ...]:
        nonlocal shape, results
        arguments = list(leaves)
        for k, x in zip(places, values, strict=True):
            arguments[k] = x
        args, kwargs = tree_unflatten(arguments, form)
        results, shape = tree_flatten(func(*args, **kwargs))
        return tuple(x for x in results if isinstance(x, Tensor))

    tensors = iter(torch.func.vmap(call, randomness="different")(*batched))
    outputs = [batch.tensor(next(tensors)) if isinstance(x, Tensor) else x for x in results]
    return tree_unflatten(outputs, shape)


def batched_distribution(fn: Distribution, batch: ExecutionBatch) -> Distribution:
    """Return a distribution with a first batch axis for all executions.

    Without it, distributions whose noise does not depend on a parameter would share their draws
    between executions.

    Args:
        fn: Distribution in one execution; its parameters may differ between executions.
        batch: The batch of executions.

    Raises:
        Unsupported: If the parameters of a transform differ between executions.
    """
    joint = copy.copy(fn)
    for name, x in vars(fn).items():
        if isinstance(x, Tensor):
            joint.__dict__[name] = batch.per_execution(x)
        elif isinstance(x, Distribution):
            joint.__dict__[name] = batched_distribution(x, batch)
        elif isinstance(x, list | tuple) and any(_differs(t) for t in x):
            raise Unsupported(
                f"the parameters of a transform of {type(fn).__name__} differ between executions"
            )
    joint.__dict__["_batch_shape"] = torch.Size((batch.number, *fn.batch_shape))
    return joint


def _differs(transform: Any) -> bool:
    """Whether a transform has parameters that differ between executions."""
    parts = vars(transform).values() if isinstance(transform, Transform) else [transform]
    return any(isinstance(x, BatchedTensor) for x in parts)
