"""A prior of latent variables that is a mixture of posteriors."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily

from pgnn.errors import ModelError
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.piece import Settings
from pgnn.limits import whole_number


class VampPrior(Conditional):
    r"""The mixture of a recognition model's posteriors for ``K`` learned pseudo-inputs.

    .. math:: p(z) = \frac1K \sum_k q(z \mid u_k)

    It shares the recognition's network. The optimal prior of a variational autoencoder averages the
    recognition over all data, which this approximates by few pseudo-inputs.

    Args:
        recognition: Conditional of the latent variable given one real variable, the data.
        pseudo_inputs: ``(K, *shape)`` initial values, such as some rows of data; or their number,
            for random initial values near zero.

    Raises:
        ModelError: If the recognition has other parents or inputs, or a shape does not match.

    Cost:
        One evaluation of the network for each pseudo-input; a mixture of ``K`` for each draw.

    References:
        Tomczak and Welling (2018), VAE with a VampPrior, section 2.

    Example:
        >>> import pgnn
        >>> z, x = pgnn.Variable("z", shape=(2,)), pgnn.Variable("x", shape=(4,))
        >>> encoder = pgnn.Neural(z, [x], nn.Linear(4, 4), head=pgnn.NormalHead((2,)))
        >>> prior = VampPrior(encoder, torch.eye(4)[:3])
        >>> vae = pgnn.VAE(encoder, nn.Linear(2, 4), pgnn.BernoulliHead((4,)), prior=prior)
        >>> vae.sample(5, seed=0)["z"].shape
        torch.Size([5, 2])
    """

    def __init__(self, recognition: Conditional, pseudo_inputs: Any = 50) -> None:
        if not isinstance(recognition, Conditional) or recognition.child.is_discrete:
            raise ModelError(
                f"recognition must be a conditional of a latent variable, got {recognition!r}"
            )
        if (
            len(recognition.parents) != 1
            or recognition.inputs
            or recognition.parents[0].is_discrete
        ):
            raise ModelError(
                "a VampPrior takes a recognition of one real variable and nothing else, got "
                f"{[v.name for v in recognition.parents]} and inputs {list(recognition.inputs)}"
            )
        super().__init__(recognition.child)
        self.recognition = recognition
        (self.data,) = recognition.parents
        numbers = next(recognition.parameters(), torch.zeros(())).detach()
        if isinstance(pseudo_inputs, Tensor) or hasattr(pseudo_inputs, "shape"):
            rows = torch.as_tensor(pseudo_inputs).to(numbers, copy=True)
        else:
            count = whole_number("pseudo_inputs", pseudo_inputs, 1, ModelError)
            rows = 0.1 * torch.randn(count, *self.data.shape).to(numbers)
        if tuple(rows.shape[1:]) != self.data.shape or not len(rows):
            raise ModelError(
                f"pseudo_inputs must have the shape (K, {', '.join(map(str, self.data.shape))}) of "
                f"{self.data.name!r}, got {tuple(rows.shape)}"
            )
        self.pseudo_inputs = nn.Parameter(rows)

    def settings(self) -> Settings:
        """Return the recognition and the number of pseudo-inputs."""
        return {"recognition": self.recognition, "pseudo_inputs": len(self.pseudo_inputs)}

    @property
    def num_free_parameters(self) -> int:
        """Number of values of the pseudo-inputs; the network belongs to the recognition."""
        return self.pseudo_inputs.numel()

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """Return the mixture; see the base class."""
        count = len(self.pseudo_inputs)
        parts = self.recognition.distribution({self.data.name: self.pseudo_inputs})
        weights = self.pseudo_inputs.new_full((count,), -math.log(count))
        return MixtureSameFamily(Categorical(logits=weights, validate_args=False), parts,
                                 validate_args=False)  # fmt: skip
