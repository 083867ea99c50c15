"""Local pieces: variables, factors, conditionals p(child | parents) and potentials."""

from pgnn.factors.conditional import Conditional
from pgnn.factors.factor import Factor
from pgnn.factors.neural import BernoulliHead, ByName, Concatenate, Neural, NormalHead
from pgnn.factors.noisy_or import NoisyMax, NoisyOr
from pgnn.factors.sigmoid import Sigmoid
from pgnn.factors.softmax import Softmax
from pgnn.factors.tabular import Tabular
from pgnn.factors.variable import Variable

__all__ = [
    "Variable",
    "Factor",
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
]
