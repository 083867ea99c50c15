"""Expectations of rows that are split over processes, with sums over all of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from pgnn.abilities import Inputs
from pgnn.errors import DataError, ModelError, PgnnError, Unsupported
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.inference.learning.e_step import EStep
from pgnn.inference.learning.expected_statistics import ExpectedStatistics


class DistributedEStep(EStep[Any]):
    """Expectations of the rows of all processes of ``torch.distributed``.

    Each process reads its own rows, and has the same model: the parameters of the first process are
    broadcast, and every M-step uses the same sums.

    Args:
        own: The expectations of this process's rows.

    Raises:
        ModelError: If there is no process group.
    """

    shared = True

    def __init__(self, e_step: EStep[Any]) -> None:
        super().__init__(e_step.model)
        self._local = e_step

    @property
    def pieces(self) -> Mapping[Hashable, Conditional]:
        """The learnable conditionals."""
        return self._local.pieces

    @property
    def parameters(self) -> Sequence[Tensor]:
        """The learnable parameters."""
        return self._local.parameters

    @property
    def states(self) -> Sequence[Hashable]:
        """Labels of the states whose expected steps are counted."""
        return self._local.states

    @property
    def learns_other_parameters(self) -> bool:
        """Whether the model also learns parameters outside the conditionals."""
        return self._local.learns_other_parameters

    def check(self) -> None:
        """Check that there is something to learn."""
        self._local.check()

    def read(self, data: Any, weights: Any, inputs: Inputs | None) -> Any:
        """Read this process's rows."""
        return together(lambda: self._local.read(data, weights, inputs))

    def improve(
        self, expected: ExpectedStatistics, priors: Mapping[Hashable, Any]
    ) -> list[Hashable]:
        """Run the M-step, with the same result in all processes."""
        return self._local.improve(expected, priors)

    def log_prior(self, priors: Mapping[Hashable, Any]) -> float:
        """Return the log prior."""
        return self._local.log_prior(priors)

    def expect(self, observed: Any) -> ExpectedStatistics:
        """Return the summed expectations of all rows."""
        summed = together(lambda: self._local.expect(observed))
        if summed.rows:
            name = next(iter(summed.rows))
            raise Unsupported(
                f"the conditional of {name!r} has no closed form: its statistics cannot be "
                "summed over processes",
                "learn in one process",
            )
        return _summed(summed)

    def total(self, observed: Any) -> float:
        """Return the log-likelihood of all rows."""
        return self.of_all(together(lambda: self._local.total(observed)))

    def of_all(self, number: float) -> float:
        """Return the sum over processes."""
        total = torch.tensor([number], dtype=torch.float64)
        _guarded(lambda: dist.all_reduce(total))
        return float(total)

    def log_partition(self, observed: Any) -> Tensor:
        """Return ``(B,)`` log probabilities of this process's rows."""
        return self._local.log_partition(observed)

    def completed(self, observed: Any) -> Any:
        """Return the rows with the most probable hidden states filled in."""
        return together(lambda: self._local.completed(observed))

    def symmetric(self, observed: Any) -> bool:
        """Whether some hidden states are interchangeable in the rows of all processes."""
        return any(exchanged(together(lambda: self._local.symmetric(observed))))

    def prepare(self, observed: Any) -> None:
        """Choose the origins of the first process."""
        together(lambda: self._local.prepare(observed))
        self._send()

    def initialize(self, observed: Any, seed: int, at_random: bool) -> None:
        """Begin at clusters of the first process's rows."""
        together(lambda: self._local.initialize(observed, seed, at_random))
        self._send()

    def _send(self) -> None:
        """Broadcast the parameters of the first process."""
        self.model.load_state_dict(from_first(self.model.state_dict()))


def check_group() -> None:
    """Check that there is a process group.

    Raises:
        ModelError: If there is none.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise ModelError(
            "distributed=True needs a group of processes",
            "run the script by torchrun, and call torch.distributed.init_process_group('gloo') "
            "first",
        )


def is_first() -> bool:
    """Whether this is the first process of the group."""
    return bool(dist.get_rank() == 0)


def rank_seed(seed: int | None) -> int | None:
    """Return a seed that differs between processes."""
    if seed is None:
        return None
    return int(np.random.SeedSequence([seed, dist.get_rank()]).generate_state(1)[0])


def from_first(thing: Any) -> Any:
    """Return the value of the first process."""
    held = [thing]
    _guarded(lambda: dist.broadcast_object_list(held, src=0))
    return held[0]


def exchanged(thing: Any) -> list[Any]:
    """Return the values of all processes."""
    held = [None] * dist.get_world_size()
    _guarded(lambda: dist.all_gather_object(held, thing))
    return held


def averaged(parameters: Sequence[Tensor], value: float, weight: float) -> tuple[float, float]:
    """Replace the gradients of this process by the mean over all processes.

    Args:
        parameters: Parameters with the gradients of this process's mean.
        value: The mean of this process.
        weight: The total weight of its rows.

    Returns:
        The mean over all processes, and its weight.
    """
    slopes = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    parts = [weight * s.reshape(-1).to("cpu", torch.float64) for s in slopes]
    flat = torch.cat([*parts, torch.tensor([weight * value, weight], dtype=torch.float64)])
    _guarded(lambda: dist.all_reduce(flat))
    total = float(flat[-1])
    means = torch.split(flat[:-1] / total, [*(s.numel() for s in slopes), 1])
    for p, mean in zip(parameters, means, strict=False):
        p.grad = mean.reshape(p.shape).to(p)
    return float(means[-1]), total


def together(work: Callable[[], Any]) -> Any:
    """Run a function in all processes; raise an error in all of them if it fails in one.

    Raises:
        DataError: The error of another process.
    """
    done: Any = None
    error: PgnnError | None = None
    try:
        done = work()
    except PgnnError as raised:
        error = raised
    messages = exchanged(None if error is None else str(error))
    if error is not None:
        raise error
    lost = [(rank, text) for rank, text in enumerate(messages) if text is not None]
    if lost:
        raise DataError(f"process {lost[0][0]}: {lost[0][1]}")
    return done


def _guarded(work: Callable[[], Any]) -> None:
    """Translate the error of a process that has ended."""
    try:
        work()
    except RuntimeError as error:
        raise PgnnError(
            "another process of the group has ended, or cannot be reached",
            f"restart all processes; with checkpoints= they resume ({str(error).splitlines()[0]})",
        ) from None


def _summed(local: ExpectedStatistics) -> ExpectedStatistics:
    """Sum statistics; those missing in one process count as zero."""
    shapes: dict[Hashable, list[torch.Size]] = {}
    local_shapes = {name: [x.shape for x in sums] for name, sums in local.sums.items()}
    for theirs in exchanged(local_shapes):
        shapes |= theirs
    zeros = {
        n: tuple(torch.zeros(s, dtype=torch.float64) for s in all_) for n, all_ in shapes.items()
    }
    sums = {n: local.sums.get(n, zeros[n]) for n in shapes}
    occupancy = [] if local.occupancy is None else [local.occupancy.double().reshape(-1)]
    head = torch.tensor([local.log_likelihood, local.weight], dtype=torch.float64)
    flat = [x.double().reshape(-1) for each in sums.values() for x in each]
    vector = torch.cat([head, *occupancy, *flat])
    _guarded(lambda: dist.all_reduce(vector))
    begin = 2 + sum(len(x) for x in occupancy)
    added = {}
    for name, each in sums.items():
        parts = []
        for x in each:
            parts.append(vector[begin : begin + x.numel()].reshape(x.shape))
            begin += x.numel()
        added[name] = tuple(parts)
    counted = None if local.occupancy is None else vector[2 : 2 + local.occupancy.numel()]
    return ExpectedStatistics(float(vector[0]), float(vector[1]), added, {}, counted)
