"""Weighted votes of all parameter vectors of a perceptron."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import Inputs
from pgnn.inference.learning.optimisation_problem import LearnableParameters
from pgnn.inference.learning.restored_on_failure import restored


@dataclass(frozen=True, eq=False)
class Voters:
    """Parameter vectors of a model during learning, and the number of rows each survived.

    Attributes:
        parameters: ``(V, P)`` parameter vectors.
        votes: ``(V,)`` number of votes of each.

    References:
        Freund and Schapire (1999), Large margin classification using the perceptron algorithm.
    """

    parameters: NDArray[np.float64]
    votes: NDArray[np.float64]

    def most_probable(
        self,
        model: Any,
        evidence: Any = None,
        targets: Hashable | None = None,
        *,
        inputs: Inputs | None = None,
    ) -> dict[Hashable, Tensor]:
        """Return the state indices with the most votes, by name of the variable.

        Args:
            model: The model that learned, which is not changed.
            evidence: See :meth:`Model.most_probable`.
            targets: See :meth:`Model.most_probable`.
            inputs: See :meth:`Model.most_probable`.

        Cost: That of :meth:`Model.most_probable` for each of the voters.
        """
        learnable, counts = LearnableParameters(model), dict[Hashable, Tensor]()
        with restored(model), torch.no_grad():
            for theta, votes in zip(self.parameters, self.votes, strict=True):
                learnable.assign(theta)
                best = model.most_probable(evidence, targets, inputs=inputs)
                codes = torch.as_tensor(best.codes)
                first = 0
                for v in best.variables:
                    columns = codes[..., first : first + v.num_elements]
                    first += v.num_elements
                    columns = columns.reshape(*codes.shape[:-1], *v.shape).long()
                    more = votes * torch.nn.functional.one_hot(columns, v.num_states)
                    counts[v.name] = counts.get(v.name, 0) + more
        return {name: count.argmax(-1) for name, count in counts.items()}
