from .conditionals.bayesian_linear import BayesianLinear
from .conditionals.bernoulli import Bernoulli, Beta
from .conditionals.codebook import Codebook, Quantised
from .conditionals.conditional import Conditional
from .conditionals.constant import Constant
from .conditionals.covariance import Covariance, Diagonal, Spherical
from .conditionals.distributional import Distributional
from .conditionals.exogenous import Exogenous
from .conditionals.exponential_family import ExponentialFamily, Statistics
from .conditionals.full_covariance import Full, Tied
from .conditionals.gaussian import Gaussian
from .conditionals.gaussian_mixture import GaussianMixture
from .conditionals.heads import (
    BernoulliHead,
    DiscretisedLogisticHead,
    NeuralHead,
    NormalHead,
    PointMassHead,
)
from .conditionals.histogram import Histogram
from .conditionals.kernel_density import (
    Bandwidth,
    KernelDensity,
    LeaveOneOut,
    Scott,
    Silverman,
)
from .conditionals.ledoit_wolf import LedoitWolf
from .conditionals.linear_gaussian import LinearGaussian
from .conditionals.logistic import Logistic
from .conditionals.multinomial import Multinomial
from .conditionals.nearest_neighbours import NearestNeighbours
from .conditionals.neural import ByName, Concatenate, Neural
from .conditionals.noisy_max import NoisyMax, NoisyMin
from .conditionals.noisy_or import NoisyAnd, NoisyOr
from .conditionals.normal_wishart import NormalWishart
from .conditionals.parameter_prior import (
    LaplacePrior,
    NormalPrior,
    ParameterPrior,
)
from .conditionals.poisson import Gamma, Poisson
from .conditionals.renamed import Renamed, RenamedFamily
from .conditionals.scaled_posterior import ScaledPosterior
from .conditionals.sigmoid import Sigmoid
from .conditionals.smoothing_kernels import (
    CosineKernel,
    EpanechnikovKernel,
    ExponentialKernel,
    GaussianKernel,
    LinearKernel,
    SmoothingKernel,
    TophatKernel,
)
from .conditionals.softmax import Softmax
from .conditionals.sparse_prior import (
    AbsolutePenalty,
    ExpPenalty,
    LogPenalty,
    SparsePenalty,
    SparsePrior,
)
from .conditionals.tabular import Tabular
from .conditionals.vamp_prior import VampPrior
from .factor import Factor
from .named_network import NamedNetwork
from .piece import Piece, Restorable
from .potentials.bias import Bias
from .potentials.conditional_potential import ConditionalPotential
from .potentials.coupling import Coupling
from .potentials.factor_tables import FactorTables
from .potentials.ising import Ising
from .potentials.lattice import Lattice
from .potentials.linear_potential import LinearPotential
from .potentials.log_linear import LogLinear
from .potentials.neural_potential import NeuralPotential
from .potentials.potential import Potential
from .potentials.potts import Potts
from .potentials.real_units import RealUnits
from .potentials.tabular_potential import TabularPotential
from .variable import Variable

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
    "Constant",
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
