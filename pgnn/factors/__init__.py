"""Local pieces: variables, factors, conditionals p(child | parents) and potentials."""

from pgnn.factors.conditionals.bayesian_linear import BayesianLinear
from pgnn.factors.conditionals.bernoulli import Bernoulli, Beta
from pgnn.factors.conditionals.codebook import Codebook, Quantised
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.covariance import Covariance, Diagonal, Spherical
from pgnn.factors.conditionals.distributional import Distributional
from pgnn.factors.conditionals.exogenous import Exogenous
from pgnn.factors.conditionals.exponential_family import ExponentialFamily, Statistics
from pgnn.factors.conditionals.full_covariance import Full, Tied
from pgnn.factors.conditionals.gaussian import Gaussian
from pgnn.factors.conditionals.gaussian_mixture import GaussianMixture
from pgnn.factors.conditionals.heads import (
    BernoulliHead,
    DiscretisedLogisticHead,
    NeuralHead,
    NormalHead,
    PointMassHead,
)
from pgnn.factors.conditionals.histogram import Histogram
from pgnn.factors.conditionals.kernel_density import (
    Bandwidth,
    KernelDensity,
    LeaveOneOut,
    Scott,
    Silverman,
)
from pgnn.factors.conditionals.ledoit_wolf import LedoitWolf
from pgnn.factors.conditionals.linear_gaussian import LinearGaussian
from pgnn.factors.conditionals.logistic import Logistic
from pgnn.factors.conditionals.multinomial import Multinomial
from pgnn.factors.conditionals.nearest_neighbours import NearestNeighbours
from pgnn.factors.conditionals.neural import ByName, Concatenate, Neural
from pgnn.factors.conditionals.noisy_or import NoisyAnd, NoisyMax, NoisyMin, NoisyOr
from pgnn.factors.conditionals.normal_wishart import NormalWishart
from pgnn.factors.conditionals.parameter_prior import (
    LaplacePrior,
    NormalPrior,
    ParameterPrior,
)
from pgnn.factors.conditionals.poisson import Gamma, Poisson
from pgnn.factors.conditionals.renamed import Renamed, RenamedFamily
from pgnn.factors.conditionals.scaled_posterior import ScaledPosterior
from pgnn.factors.conditionals.sigmoid import Sigmoid
from pgnn.factors.conditionals.smoothing_kernels import (
    CosineKernel,
    EpanechnikovKernel,
    ExponentialKernel,
    GaussianKernel,
    LinearKernel,
    SmoothingKernel,
    TophatKernel,
)
from pgnn.factors.conditionals.softmax import Softmax
from pgnn.factors.conditionals.sparse_prior import (
    AbsolutePenalty,
    ExpPenalty,
    LogPenalty,
    SparsePenalty,
    SparsePrior,
)
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.factors.conditionals.vamp_prior import VampPrior
from pgnn.factors.factor import Factor
from pgnn.factors.named_network import NamedNetwork
from pgnn.factors.piece import Piece, Restorable
from pgnn.factors.potentials.bias import Bias
from pgnn.factors.potentials.conditional_potential import ConditionalPotential
from pgnn.factors.potentials.coupling import Coupling
from pgnn.factors.potentials.factor_tables import FactorTables
from pgnn.factors.potentials.ising import Ising
from pgnn.factors.potentials.lattice import Lattice
from pgnn.factors.potentials.linear_potential import LinearPotential
from pgnn.factors.potentials.log_linear import LogLinear
from pgnn.factors.potentials.neural_potential import NeuralPotential
from pgnn.factors.potentials.potential import Potential
from pgnn.factors.potentials.potts import Potts
from pgnn.factors.potentials.real_units import RealUnits
from pgnn.factors.potentials.tabular_potential import TabularPotential
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
    "NoisyAnd",
    "NoisyMin",
    "Softmax",
    "Neural",
    "ScaledPosterior",
    "Concatenate",
    "ByName",
    "DiscretisedLogisticHead",
    "PointMassHead",
    "NeuralHead",
    "NormalHead",
    "NamedNetwork",
    "BernoulliHead",
    "Gaussian",
    "GaussianMixture",
    "VampPrior",
    "Codebook",
    "Quantised",
    "LinearGaussian",
    "BayesianLinear",
    "Logistic",
    "Poisson",
    "Bernoulli",
    "Multinomial",
    "Distributional",
    "Renamed",
    "RenamedFamily",
    "Exogenous",
    "ExponentialFamily",
    "Statistics",
    # densities of stored rows
    "Histogram",
    "KernelDensity",
    "NearestNeighbours",
    "Bandwidth",
    "Scott",
    "Silverman",
    "LeaveOneOut",
    "SmoothingKernel",
    "GaussianKernel",
    "TophatKernel",
    "EpanechnikovKernel",
    "ExponentialKernel",
    "LinearKernel",
    "CosineKernel",
    "SparsePrior",
    "SparsePenalty",
    "AbsolutePenalty",
    "LogPenalty",
    "ExpPenalty",
    # forms of covariances
    "Covariance",
    "Full",
    "Tied",
    "Diagonal",
    "Spherical",
    "LedoitWolf",
    # priors
    "NormalWishart",
    "ParameterPrior",
    "NormalPrior",
    "LaplacePrior",
    "Gamma",
    "Beta",
    # potentials
    "Potential",
    "TabularPotential",
    "Ising",
    "Coupling",
    "Bias",
    "RealUnits",
    "Potts",
    "Lattice",
    "LogLinear",
    "LinearPotential",
    "NeuralPotential",
    "FactorTables",
    "ConditionalPotential",
    # saving and restoring
    "Piece",
    "Restorable",
]
