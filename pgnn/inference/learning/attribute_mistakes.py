"""Mistake-driven updates of labels given attributes, by a compiled loop."""

from __future__ import annotations

import numpy as np
import torch

from pgnn.abilities import AttributeChainModel
from pgnn.inference.chains.attribute_chain import AttributeChain
from pgnn.inference.learning.mistakes import Floats, Ints, Mistakes, Rule, impossible


class AttributeMistakes(Mistakes):
    """A pass over all sentences by a single call of a kernel.

    Args:
        model: A chain of labels.
        chain: The chain of the rows.
        weights: ``(B,)`` weights of the rows.
        ends: Whether scores of first and last labels are learned.
    """

    def __init__(self, model: AttributeChainModel, chain: AttributeChain, weights: Floats) -> None:
        self.model, self.kernel, self.weights = model, chain.kernel, weights
        scores = [x.detach() for x in model.attribute_scores()]
        self.state = self.kernel.corrections(model.learned_transitions, model.learns_ends, *scores)

    def correct(self, order: Ints, rule: Rule) -> tuple[Floats, Ints]:
        """Pass over rows, see the base class."""
        most = -1.0 if rule.most is None else rule.most
        losses, wrong = self.kernel.correct(self.state, order, self.weights, rule.cost, most)
        if np.isnan(losses).any():
            raise impossible(int(np.isnan(losses).argmax()))
        return losses, wrong

    def finish(self, averaged: bool) -> None:
        """Set the final parameters, see the base class."""
        scores = self.kernel.parts(self.state.weights)
        if averaged:
            totals, count = self.kernel.parts(self.state.totals), float(self.state.updates[0])
            scores = [x - total / count for x, total in zip(scores, totals, strict=True)]
        with torch.no_grad():
            self.model.assign_attribute_scores(*scores)
