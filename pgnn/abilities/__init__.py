"""What a model can do, declared by base classes: engines, learners and files ask for these.

A model declares what it can do by inheriting an ability, which it must implement: a class that a
user writes is asked in the same words as those of this library. Code that needs an ability writes
``isinstance(model, ChainModel)``, and never looks whether an attribute happens to be there.
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
