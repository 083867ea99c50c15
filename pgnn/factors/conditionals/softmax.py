"""Logistic regression as a conditional: softmax in discrete and real parents and in inputs."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.conditionals.additive import Additive
from pgnn.factors.conditionals.curved import Curved
from pgnn.factors.conditionals.table_reader import numbers_or_zeros
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable

_ROUNDING = 1e-12
"""Standard deviations up to this share of the largest value are zero, up to rounding."""


class Softmax(Additive, Curved):
    r"""Multinomial logistic regression :math:`p(y \mid x, u) = \mathrm{softmax}(b + W^\top f)_y`.

    The features :math:`f` are, in order: for each discrete parent the indicators of its states
    1, 2, ... (state 0 is the reference, so a binary parent is the number 0 or 1, as in
    ``Sigmoid``); for each real parent its values, flattened; for each input its values, flattened.
    Adding a constant to a row of ``weight`` or to ``bias`` changes nothing, so each of their rows
    counts as ``K - 1`` free parameters.

    Args:
        child: Discrete variable with ``K`` states.
        parents: Discrete variables, and real ones of known shape (they must be observed).
        weight: ``(F, K)``, features first and the child's states last; learnable zeros by default.
        bias: ``(K,)`` scores where all features are 0; learnable zeros by default. Given values are
            float64 constants.
        inputs: Covariates, mapping names to number of values or shape.

    Raises:
        ModelError: If the child is not discrete, or a shape or number is wrong.

    Example:
        >>> import torch
        >>> size, color = Variable("size"), Variable("color", ["red", "green", "blue"])
        >>> p_color = Softmax(color, [size], weight=[[0.0, 1.0, 2.0]], bias=[0.0, 0.0, 0.0])
        >>> p_color.distribution({"size": torch.tensor([0.0, 1.0])}).probs
        tensor([[0.3333, 0.3333, 0.3333],
                [0.0900, 0.2447, 0.6652]], dtype=torch.float64)

    References:
        Koller and Friedman (2009), Probabilistic Graphical Models, section 5.4.1.
    """

    def __init__(
        self,
        child: Variable,
        parents: Sequence[Variable] = (),
        weight: Any = None,
        bias: Any = None,
        inputs: Mapping[Hashable, int | Sequence[int]] | None = None,
    ) -> None:
        super().__init__(child, parents, inputs or {})
        if not child.is_discrete or child.shape:
            raise ModelError(
                f"Softmax conditional needs a single discrete child, {child.name!r} is not",
                "use Neural or LinearGaussian",
            )
        self.input_shapes = {
            name: (size,) if isinstance(size, int) else tuple(size)
            for name, size in (inputs or {}).items()
        }
        self._sizes = [self._num_features(name) for name in self._term_names()]
        shape = (sum(self._sizes), child.num_states)
        self.weight = numbers_or_zeros(f"weight of {child.name!r}", weight, shape)
        self.bias = numbers_or_zeros(f"bias of {child.name!r}", bias, (child.num_states,))

    def settings(self) -> Settings:
        """Return the variables, and the shapes of the inputs."""
        return super().settings() | {"inputs": self.input_shapes}

    @property
    def num_free_parameters(self) -> int:
        """``(K - 1) (F + 1)``: the scores of one state may be fixed at zero."""
        return (self.child.num_states - 1) * (sum(self._sizes) + 1)

    def num_free(self, parameter: Tensor) -> int:
        """Number of entries, less those of one state."""
        return parameter.numel() - parameter.numel() // self.child.num_states

    def curvature(
        self,
        values: Mapping[Hashable, Tensor],
        inputs: Mapping[Hashable, Tensor],
        weights: Tensor,
    ) -> Tensor | None:
        r"""Return :math:`\sum_n w_n \mathrm{Cov}(s_n) \otimes z_n z_n^\top`; see the base class.

        The covariance of scores is :math:`\mathrm{diag}(p_n) - p_n p_n^\top`, or :math:`p_n (1 -
        p_n)` for the log odds of two states.
        """
        z = self._features(values, inputs)
        if z is None:
            return None
        with torch.no_grad():
            p = self.distribution(values, inputs).probs.expand(len(z), -1)
        size, columns = z.shape[1], len(self._offset())
        whole = z.new_zeros(size, columns, size, columns)
        for k in range(columns):
            for j in range(k + 1):
                w = weights * self._score_covariance(p, k, j)
                part = (z * w.unsqueeze(1)).T @ z
                whole[:, k, :, j] = part
                whole[:, j, :, k] = part.T
        return whole.reshape(size * columns, size * columns)

    def _score_covariance(self, p: Tensor, k: int, j: int) -> Tensor:
        """Return ``(N,)`` covariances of two scores under probabilities ``(N, K)``."""
        return p[:, k] * ((1.0 if j == k else 0.0) - p[:, j])

    @contextmanager
    def standardised(
        self,
        values: Mapping[Hashable, Tensor],
        inputs: Mapping[Hashable, Tensor],
        *,
        scaled: bool,
    ) -> Iterator[tuple[Mapping[Hashable, Tensor], Mapping[Hashable, Tensor]]]:
        """See the base class; constants are unchanged."""
        reals = {v.name for v in self.parents if not v.is_discrete}
        real = {n: x.double() for n, x in values.items() if n in reals and len(x)}
        real |= {n: x.double() for n, x in inputs.items() if n in self.inputs and len(x)}
        centres, scales = self.bias.requires_grad, scaled and self.weight.requires_grad
        origin = {n: x.mean(dim=0) if centres else torch.zeros_like(x[0]) for n, x in real.items()}
        unit = {n: _spread(x) if scales else torch.ones_like(x[0]) for n, x in real.items()}

        def moved(part: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
            part = dict(part)
            new = {n: (real[n] - origin[n]) / unit[n] for n in part if n in real}
            return part | {n: x.to(part[n]) if part[n].is_floating_point() else x
                           for n, x in new.items()}  # fmt: skip

        with torch.no_grad():
            for name, term in self._real_terms(real):
                self._move_bias(origin[name], term)
                term.mul_(unit[name].reshape(-1, 1).to(term))
        try:
            yield moved(values), moved(inputs)
        finally:
            with torch.no_grad():
                for name, term in self._real_terms(real):
                    term.div_(unit[name].reshape(-1, 1).to(term))
                    self._move_bias(-origin[name], term)

    def _real_terms(self, names: Collection[Hashable]) -> list[tuple[Hashable, Tensor]]:
        """Weights of real parents and inputs, which may be changed in place."""
        pairs = zip(self._term_names(), self._terms(), strict=True)
        return [(n, term) for n, term in pairs if n in names]

    def _move_bias(self, origin: Tensor, term: Tensor) -> None:
        """Add what features at the origin contribute to the bias."""
        if self.bias.requires_grad:
            self.bias.add_((origin.reshape(-1).to(term) @ term).reshape(self.bias.shape))

    def _features(
        self, values: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor]
    ) -> Tensor | None:
        """Return ``(N, F + 1)`` features and a constant one; None if some are not observed."""
        columns = []
        for v in self.parents:
            if v.name not in values:
                return None
            x = values[v.name]
            if v.is_discrete:
                columns.append(torch.nn.functional.one_hot(x, v.num_states)[..., 1:].double())
            else:
                columns.append(x.reshape(len(x), -1).double())
        columns += [inputs[n].reshape(len(inputs[n]), -1).double() for n in self.inputs]
        if not columns:
            return None
        return torch.cat([*columns, torch.ones_like(columns[0][:, :1])], dim=1)

    def _num_features(self, name: Hashable) -> int:
        if name in self.input_shapes:
            return math.prod(self.input_shapes[name])
        parent = next(v for v in self.parents if v.name == name)
        if any(not isinstance(n, int) for n in parent.shape) or (
            parent.is_discrete and parent.shape
        ):
            raise ModelError(
                f"Softmax conditional of {self.child.name!r} needs single discrete parents or "
                f"real ones of known shape, but {name!r} has shape {parent.shape}",
                "use Neural",
            )
        return parent.num_states - 1 if parent.is_discrete else math.prod(parent.shape)

    def _event_dims(self, name: Hashable) -> int | None:
        return (
            len(self.input_shapes[name]) if name in self.input_shapes else super()._event_dims(name)
        )

    def _offset(self) -> Tensor:
        return self.bias

    def _scores(self) -> Tensor:
        return self.weight

    def _num_rows(self) -> Sequence[int]:
        return self._sizes

    def _log_weights(self, score: Tensor) -> Tensor:
        return score

    def _log_probs(self, score: Tensor) -> Tensor:
        return score.log_softmax(dim=-1)


def _spread(x: Tensor) -> Tensor:
    """Standard deviations of the columns ``(N, ...)``; one where there is none."""
    spread = (x - x.mean(dim=0)).square().mean(dim=0).sqrt()
    rounding = _ROUNDING * x.abs().amax(dim=0)  # of the mean of a constant column
    return torch.where((spread > rounding) & spread.isfinite(), spread, 1.0)
