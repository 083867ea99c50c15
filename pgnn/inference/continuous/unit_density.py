"""Joint density and recognition draws of models with layers of units."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.abilities import Inputs
from pgnn.errors import DataError, Unsupported
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.units.recognised_layers import RecognisedLayers
from pgnn.inference.continuous.coordinates import Reals
from pgnn.inference.continuous.densities import SummedDensity
from pgnn.inference.continuous.guide_draws import Drawn, DrawnLayer, GuideDraws
from pgnn.inference.continuous.guides import At
from pgnn.inference.continuous.objective import Elbo, Objective
from pgnn.inference.learning.batched_rows import BatchedRows


class UnitDensity(SummedDensity):
    r"""Density :math:`p(x_0, x_1, \dots, x_L)` at the states of all hidden layers.

    Args:
        model: Layers with a recognition network.
        observed: Complete rows of the visible units.
        inputs: Must be None.
        checked: Whether the rows are known to be valid.

    Raises:
        Unsupported: If the top of the model is not normalised.
        DataError: If a visible unit is missing, or a hidden unit is observed.
    """

    def __init__(
        self,
        model: Any,
        observed: RowEvidence,
        inputs: Inputs | None = None,
        *,
        checked: bool = False,
    ) -> None:
        super().__init__(model, observed, inputs, checked=True)
        if not checked:
            _check(model, observed)

    @cached_property
    def latents(self) -> tuple[Hashable, ...]:
        """Names of the hidden layers."""
        return tuple(n for n in self.model.variables if n != self.layers.visible)

    @property
    def layers(self) -> RecognisedLayers:
        """The model."""
        assert isinstance(self.model, RecognisedLayers)
        return self.model

    @cached_property
    def visible(self) -> Tensor:
        """``(R, n)`` visible units, with the dtype and the device of the model."""
        codes = self.observed.codes[:, self.model.elements.numbers(self.layers.visible).ravel()]
        model: Any = self.model
        like = next(model.parameters())
        return torch.from_numpy(np.ascontiguousarray(codes)).to(like)

    def log_density(self, reals: Reals, without: Collection[Hashable] = ()) -> Tensor:
        """See :class:`SummedDensity`."""
        return torch.stack(self.log_parts(reals)).sum(0)

    def log_parts(self, reals: Reals, without: Collection[Hashable] = ()) -> list[Tensor]:
        """See :class:`SummedDensity`; one term for each hidden layer."""
        hidden = [reals[n].flatten(start_dim=1) for n in self.latents]
        visible = self.visible.repeat(len(hidden[0]) // len(self.visible), 1)
        return [x.cpu() for x in self.layers.joint_terms([visible, *hidden])]

    def terms(self, reals: Reals) -> dict[Hashable, Tensor]:
        """See :class:`JointDensity`."""
        return dict(zip(self.latents, self.log_parts(reals), strict=True))


class UnitDraws(GuideDraws):
    """Sequential draws of hidden layers from the recognition network of a model.

    Args:
        model: Layers with a recognition network.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        # not a submodule, because the parameters belong to the model
        self.__dict__["model"] = model

    @property
    def names(self) -> tuple[Hashable, ...]:
        """See :class:`GuideDraws`."""
        model = self.__dict__["model"]
        return tuple(n for n in model.variables if n != model.visible)

    def draw(self, n: int, at: At, objective: Objective, generator: torch.Generator) -> Drawn:
        """See :class:`GuideDraws`; the values are zeros and ones in the dtype of the model.

        Raises:
            Unsupported: If the objective requires differentiable draws.
        """
        if objective.path_only or (isinstance(objective, Elbo) and not objective.is_plain):
            raise Unsupported(
                f"{objective!r} requires real latent variables, but units are discrete",
                "use ScoreFunction(), ImportanceWeighted() or Elbo() without further settings",
            )
        model, density = self.__dict__["model"], at.density
        assert isinstance(density, UnitDensity)
        visible, rows = density.visible.repeat(n, 1), len(at.rows)
        states = model.recognise(visible, _on_device(generator, visible.device))
        layers = [
            DrawnLayer(log_q.double().cpu().reshape(n, rows), below.reshape(n, rows, -1))
            for log_q, below in zip(model.recognition_terms(states), states[:-1], strict=True)
        ]
        values = {
            name: x.reshape(n, rows, *model.variables[name].shape)
            for name, x in zip(self.names, states[1:], strict=True)
        }
        log_q = torch.stack([x.log_q for x in layers]).sum(0)
        return Drawn(values, log_q, pathwise=False, layers=tuple(layers))


def training_density(
    model: Any, observed: RowEvidence, inputs: Inputs | None = None
) -> SummedDensity:
    """Return the density that is maximised in learning a model."""
    kind = UnitDensity if isinstance(model, RecognisedLayers) else SummedDensity
    return kind(model, observed, inputs)


def begin_learning(model: Any, rows: RowEvidence | BatchedRows, generator: torch.Generator) -> None:
    """Initialise the parameters of layers that have never been set.

    Args:
        model: Any model; only layers with a recognition network are changed.
        rows: Training data; the first batch is used if it can be iterated again.
        generator: Random generator of small random weights.
    """
    if isinstance(model, RecognisedLayers):
        model.begin_learning(*_beginning(model, rows, generator))


def _beginning(
    model: Any, rows: RowEvidence | BatchedRows, generator: torch.Generator
) -> tuple[Tensor, torch.Generator]:
    """Return the mean of the visible units, and a generator on their device."""
    if isinstance(rows, BatchedRows) and not rows.begins_anew:
        like = next(model.parameters())
        mean = like.new_full((model.variables[model.visible].num_elements,), 0.5)
    else:
        observed = next(iter(rows)) if isinstance(rows, BatchedRows) else rows
        density = UnitDensity(model, observed)
        weights = torch.from_numpy(observed.row_weights / observed.row_weights.sum())
        mean = weights.to(density.visible) @ density.visible
    return mean, _on_device(generator, mean.device)


def _check(model: Any, observed: RowEvidence) -> None:
    what = type(model).__name__
    if not model.is_normalized:
        raise Unsupported(
            f"the top of {what} is not normalised, so its bound cannot be maximised",
            "learn with WakeSleep()",
        )
    units = model.elements.numbers(model.visible).ravel()
    hidden = np.delete(observed.codes, units, axis=1)
    if not (observed.codes[:, units] >= 0).all():
        raise DataError(
            f"all units of {model.visible!r} must be observed, because the recognition network of "
            f"{what} reads them",
            "remove incomplete rows, or impute them",
        )
    if (hidden >= 0).any() or observed.soft is not None or observed.soft_tensors:
        raise DataError(
            f"{what} is learned from states of {model.visible!r} only",
            "leave out hidden layers and likelihoods",
        )


def _on_device(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """Return a generator on a device, seeded by another generator."""
    if generator.device == device:
        return generator
    derived = torch.Generator(device)
    derived.manual_seed(int(torch.randint(2**62, (), generator=generator)))
    return derived
