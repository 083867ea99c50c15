"""Abilities of models, declared by base classes that engines, learners and files check for.

A model declares what it can do by inheriting an ability, which it must implement; this holds for
classes of users and of this library alike. Code that needs an ability writes ``isinstance(model,
ChainModel)``, and never tests whether an attribute exists.
"""

from pgnn.abilities.core import (
    AmortisedModel,
    ClassModel,
    ClosedFormModel,
    DensityModel,
    DirectedModel,
    ExecutableModel,
    FactorModel,
    Inputs,
    MixtureModel,
    NetworkModel,
    VariableModel,
)
from pgnn.abilities.implicit import AdversarialModel, Duel, Game, ImplicitModel
from pgnn.abilities.layers import StackedModel
from pgnn.abilities.over_time import (
    AlignmentModel,
    AttributeChainModel,
    ChainModel,
    EmittingModel,
    GaussianChainModel,
    LikelihoodModel,
    MixtureOverTime,
    PairedModel,
    SlicedModel,
    StepwiseModel,
    UnrollableModel,
)
from pgnn.abilities.vectors import (
    GaussianFieldModel,
    LatentFactorModel,
    ReconstructingModel,
    SolvableModel,
    VectorModel,
)

__all__ = [
    "AttributeChainModel",
    "AlignmentModel",
    "AdversarialModel",
    "AmortisedModel",
    "ChainModel",
    "ClassModel",
    "ClosedFormModel",
    "DensityModel",
    "DirectedModel",
    "Duel",
    "EmittingModel",
    "ExecutableModel",
    "FactorModel",
    "Game",
    "GaussianChainModel",
    "GaussianFieldModel",
    "ImplicitModel",
    "Inputs",
    "LatentFactorModel",
    "LikelihoodModel",
    "ReconstructingModel",
    "MixtureModel",
    "MixtureOverTime",
    "NetworkModel",
    "PairedModel",
    "SlicedModel",
    "SolvableModel",
    "StackedModel",
    "StepwiseModel",
    "UnrollableModel",
    "VariableModel",
    "VectorModel",
]
