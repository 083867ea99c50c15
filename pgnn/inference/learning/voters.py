"""All parameters that a perceptron had, each with a vote."""

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
    """Parameters that a model had while it learned, and how many rows each survived.

    Attributes:
        parameters: ``(V, P)``.
        votes: ``(V,)``.

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
        """Return the states that most votes are for, as indices, by name of the variable.

        Args:
            model: That learned; it stays as it is.
            evidence: See :meth:`Model.most_probable`.
            targets: Likewise.
            inputs: Likewise.

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
