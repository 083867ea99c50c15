"""Local pieces: variables, factors, conditionals p(child | parents) and potentials."""

from pgnn.factors.bernoulli import Bernoulli, Beta
from pgnn.factors.conditional import Conditional
from pgnn.factors.covariance import Covariance
from pgnn.factors.diagonal_covariance import Diagonal, Spherical
from pgnn.factors.distributional import Distributional
from pgnn.factors.exponential_family import ExponentialFamily, Statistics
from pgnn.factors.factor import Factor
from pgnn.factors.full_covariance import Full, Tied
from pgnn.factors.gaussian import Gaussian
from pgnn.factors.gaussian_mixture import GaussianMixture
from pgnn.factors.ising import Ising
from pgnn.factors.lattice import Lattice
from pgnn.factors.linear_gaussian import LinearGaussian
from pgnn.factors.log_linear import LogLinear
from pgnn.factors.neural import BernoulliHead, ByName, Concatenate, Neural, NormalHead
from pgnn.factors.neural_potential import NeuralPotential
from pgnn.factors.noisy_or import NoisyMax, NoisyOr
from pgnn.factors.normal_wishart import NormalWishart
from pgnn.factors.poisson import Gamma, Poisson
from pgnn.factors.potential import Potential
from pgnn.factors.potts import Potts
from pgnn.factors.renamed import Renamed
from pgnn.factors.scaled_posterior import ScaledPosterior
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
    "ScaledPosterior",
    "Concatenate",
    "ByName",
    "NormalHead",
    "BernoulliHead",
    "Gaussian",
    "GaussianMixture",
    "LinearGaussian",
    "Poisson",
    "Bernoulli",
    "Distributional",
    "Renamed",
    "ExponentialFamily",
    "Statistics",
    # forms of covariances
    "Covariance",
    "Full",
    "Tied",
    "Diagonal",
    "Spherical",
    # priors
    "NormalWishart",
    "Gamma",
    "Beta",
    # potentials
    "Potential",
    "TabularPotential",
    "Ising",
    "Potts",
    "Lattice",
    "LogLinear",
    "NeuralPotential",
]
