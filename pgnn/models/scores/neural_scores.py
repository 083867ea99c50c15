"""Scores of labels that a network computes from inputs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pgnn.errors import EvidenceError, ModelError
from pgnn.evidence.covariates import input_sequences
from pgnn.factors.named_network import called
from pgnn.factors.piece import Settings
from pgnn.models.scores.step_scores import Covariates, StepScores


class NeuralScores(StepScores):
    r"""A network's output as log potentials, :math:`f_t(k; x) = g_\theta(x)_{t k}`.

    Args:
        module: Maps ``(B, T, ...)`` to ``(B, T, K)``, such as a convolutional, recurrent or
            attention network with a linear output layer.
        input_name: Name of the input: ``(B, T, ...)``, a list of sequences ``(T, ...)`` of any
            lengths, or a single sequence. The lengths of a padded array are those of the evidence:
            labels, or ``{"T": lengths}``.
        takes_lengths: Whether the ``(B,)`` lengths are passed to the module as well, as a
            bidirectional network needs.

    Example:
        >>> scores = NeuralScores(nn.Linear(5, 3), "x")
        >>> scores.scores({"x": torch.zeros(2, 4, 5)}, torch.ones(2, 4, dtype=torch.bool)).shape
        torch.Size([8, 3])
    """

    def __init__(
        self, module: nn.Module, input_name: Hashable = "x", takes_lengths: bool = False
    ) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise ModelError(f"module must be a torch module, got {type(module).__name__}")
        self.module, self.input_name, self.takes_lengths = module, input_name, takes_lengths

    @property
    def scope(self) -> tuple[Any, ...]:
        """Empty: the field that contains the scores declares the variables."""
        return ()

    @property
    def is_unset(self) -> bool:
        """False: a network is initialised when it is created."""
        return False

    def settings(self) -> Settings:
        """Return the constructor arguments."""
        return {
            "module": self.module,
            "input_name": self.input_name,
            "takes_lengths": self.takes_lengths,
        }

    def lengths(self, raw: Any) -> Any:
        """Return the lengths of a list of sequences; None for an array, which may be padded."""
        raw = input_sequences(self.input_name, raw)
        if not isinstance(raw, list | tuple) or not len(raw):
            return None
        parts = [np.shape(x) for x in raw]
        return np.array([p[0] for p in parts], np.int64) if all(parts) else None

    def array_lengths(self, raw: Any) -> Any:
        """Return the lengths of sequences; for an array, its number of steps.

        A single sequence is ``(T, D)``, or ``(T,)`` integers; a batch has one more axis.
        """
        raw = input_sequences(self.input_name, raw)
        if isinstance(raw, list | tuple):
            return self.lengths(raw)
        try:
            values = torch.as_tensor(raw)
        except (TypeError, ValueError, RuntimeError):
            return None
        axes = 1 + values.is_floating_point()
        if values.dim() <= axes:
            return len(values) if values.dim() == axes else None
        return np.full(len(values), values.shape[1])

    def covariates(self, raw: Any, shape: tuple[int, int], batched: bool) -> Covariates:
        """Return ``(B, T, ...)`` values, padded with zeros.

        Raises:
            EvidenceError: If the input is not an array, has another shape, or is not finite.
        """
        raw = input_sequences(self.input_name, raw)
        try:
            values = self._values(raw)
        except (TypeError, ValueError, RuntimeError) as error:
            raise EvidenceError(
                f"the input {self.input_name!r} must be an array of numbers, or a list of "
                f"sequences whose steps have the same shape: {error}"
            ) from None
        if not (isinstance(raw, list | tuple) and len(raw)) and not batched:
            values = values if values.shape[:2] == (1, shape[1]) else values[None]
        if values.shape[:2] != shape:
            raise EvidenceError(
                f"the input {self.input_name!r} must have the shape ({shape[0]}, {shape[1]}, ...), "
                f"a value for each step, got {tuple(values.shape)}"
            )
        if values.is_floating_point() and not bool(values.isfinite().all()):
            raise EvidenceError(f"the input {self.input_name!r} has values that are not finite")
        return {self.input_name: values}

    @staticmethod
    def _values(raw: Any) -> Tensor:
        if not isinstance(raw, list | tuple) or not len(raw):
            return torch.as_tensor(raw)
        parts = [torch.as_tensor(x) for x in raw]
        return nn.utils.rnn.pad_sequence(parts, batch_first=True)

    def scores(self, covariates: Mapping[Hashable, Tensor], inside: Tensor) -> Tensor:
        """Return ``(N, K)``, see the base class."""
        out = self.padded(covariates, inside)
        return out[inside.to(out.device)]

    def padded(self, covariates: Mapping[Hashable, Tensor], inside: Tensor) -> Tensor:
        """Return ``(B, T, K)`` scores, with arbitrary values in the padding; see :meth:`scores`.

        Raises:
            ModelError: If the module does not accept the input, or its output has another shape.
        """
        x = covariates[self.input_name]
        if x.is_floating_point():
            x = x.to(next((p.dtype for p in self.module.parameters()), x.dtype))
        lengths = [inside.sum(dim=1)] if self.takes_lengths else []
        out = called(f"network of {self.input_name!r}", self.module, x, *lengths)
        if not isinstance(out, Tensor) or out.dim() != 3 or out.shape[:2] != x.shape[:2]:
            what = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise ModelError(
                f"the network of {self.input_name!r} must return scores "
                f"({x.shape[0]}, {x.shape[1]}, K), got {what}"
            )
        return out
