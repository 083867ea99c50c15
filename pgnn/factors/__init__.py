"""Local pieces: variables, factors, conditionals p(child | parents) and potentials."""

from pgnn.factors.conditional import Conditional
from pgnn.factors.factor import Factor
from pgnn.factors.ising import Ising
from pgnn.factors.lattice import Lattice
from pgnn.factors.log_linear import LogLinear
from pgnn.factors.neural import BernoulliHead, ByName, Concatenate, Neural, NormalHead
from pgnn.factors.neural_potential import NeuralPotential
from pgnn.factors.noisy_or import NoisyMax, NoisyOr
from pgnn.factors.potential import Potential
from pgnn.factors.potts import Potts
from pgnn.factors.sigmoid import Sigmoid
from pgnn.factors.softmax import Softmax
from pgnn.factors.tabular import Tabular
from pgnn.factors.tabular_potential import TabularPotential
from pgnn.factors.variable import Variable

__all__ = [
    "Variable",
    "Factor",
    # conditionals
    "Conditional",
    "Tabular",
    "Sigmoid",
    "NoisyOr",
    "NoisyMax",
    "Softmax",
    "Neural",
    "Concatenate",
    "ByName",
    "NormalHead",
    "BernoulliHead",
    # potentials
    "Potential",
    "TabularPotential",
    "Ising",
    "Potts",
    "Lattice",
    "LogLinear",
    "NeuralPotential",
]
