"""Probabilistic graphical models and probabilistic programs with neural networks as parts."""

from pgnn import abilities, divergences, metrics, neural, plot, sensitivity
from pgnn.errors import (
    DataError,
    EvidenceError,
    ImpossibleEvidence,
    Intractable,
    ModelError,
    NotConverged,
    PgnnError,
    Unsupported,
)
from pgnn.evidence import codes, likelihood, missing_indicators, observed, states_of
from pgnn.factors import (
    AbsolutePenalty,
    Bandwidth,
    BayesianLinear,
    Bernoulli,
    BernoulliHead,
    Beta,
    Bias,
    ByName,
    Codebook,
    Concatenate,
    Conditional,
    CosineKernel,
    Coupling,
    Diagonal,
    DiscretisedLogisticHead,
    Distributional,
    EpanechnikovKernel,
    ExponentialKernel,
    ExpPenalty,
    Factor,
    Full,
    Gamma,
    Gaussian,
    GaussianKernel,
    GaussianMixture,
    Histogram,
    Ising,
    KernelDensity,
    LaplacePrior,
    Lattice,
    LeaveOneOut,
    LedoitWolf,
    LinearGaussian,
    LinearKernel,
    LinearPotential,
    Logistic,
    LogLinear,
    LogPenalty,
    Multinomial,
    NearestNeighbours,
    Neural,
    NeuralHead,
    NeuralPotential,
    NoisyAnd,
    NoisyMax,
    NoisyMin,
    NoisyOr,
    NormalHead,
    NormalPrior,
    NormalWishart,
    ParameterPrior,
    PointMassHead,
    Poisson,
    Potential,
    Potts,
    ScaledPosterior,
    Scott,
    Sigmoid,
    Silverman,
    SmoothingKernel,
    Softmax,
    SparsePenalty,
    SparsePrior,
    Spherical,
    Tabular,
    TabularPotential,
    Tied,
    TophatKernel,
    VampPrior,
    Variable,
)
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.automatic import Automatic
from pgnn.inference.automatic_units import AutomaticUnits
from pgnn.inference.beliefs import Beliefs, Best
from pgnn.inference.continuous.flow import Flow
from pgnn.inference.continuous.guides import (
    Amortised,
    Delta,
    FullRankNormal,
    LowRankNormal,
    MeanFieldNormal,
)
from pgnn.inference.continuous.hamiltonian_annealing import HamiltonianAnnealing
from pgnn.inference.continuous.lower_bound import LowerBound
from pgnn.inference.continuous.mcmc import MCMC
from pgnn.inference.continuous.objective import Elbo, ImportanceWeighted, Renyi, ScoreFunction
from pgnn.inference.continuous.variational import Variational
from pgnn.inference.engine import Engine
from pgnn.inference.exact.block_elimination import BlockElimination
from pgnn.inference.exact.by_component import ByComponent
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.exact.sparse_normal import SparseNormal
from pgnn.inference.learner import Learner
from pgnn.inference.learning.adversarial import Adversarial
from pgnn.inference.learning.adversarial_objectives import (
    Hinge,
    LeastSquares,
    MeanProbability,
    MinMax,
    NonSaturating,
    Wasserstein,
    WassersteinGradientPenalty,
)
from pgnn.inference.learning.checkpoints import Checkpoints
from pgnn.inference.learning.contrastive_divergence import ContrastiveDivergence
from pgnn.inference.learning.em import EM
from pgnn.inference.learning.entropy_regularization import EntropyRegularization
from pgnn.inference.learning.extrapolation import OverRelaxation
from pgnn.inference.learning.gradient import Gradient
from pgnn.inference.learning.greedy_layerwise import GreedyLayerwise
from pgnn.inference.learning.k_means import KMeans
from pgnn.inference.learning.max_margin import MaxMargin
from pgnn.inference.learning.maximum_likelihood import MaximumLikelihood
from pgnn.inference.learning.pattern_storage import Hebbian, PseudoInverse, Unlearning
from pgnn.inference.learning.perceptron import Perceptron
from pgnn.inference.learning.prior_shift import PriorShift
from pgnn.inference.learning.priors import K2, BDeu, Dirichlet, Laplace
from pgnn.inference.learning.pseudo_likelihood import PseudoLikelihood
from pgnn.inference.learning.self_training import CoTraining, SelfTraining
from pgnn.inference.learning.variational_bayes import VariationalBayes
from pgnn.inference.learning.wake_sleep import WakeSleep
from pgnn.inference.mean_field.block_ascent import Slices
from pgnn.inference.mean_field.mean_field import MeanField
from pgnn.inference.particles.execution_enumeration import ExecutionEnumeration
from pgnn.inference.particles.execution_sampling import ExecutionSampling
from pgnn.inference.particles.resampling import Resampling
from pgnn.inference.posterior import Posterior
from pgnn.inference.propagation.belief_propagation import BeliefPropagation
from pgnn.inference.propagation.schedules import Flooding, Residual, Sequential
from pgnn.inference.question import Question
from pgnn.inference.samples import Samples
from pgnn.inference.sampling.annealed_importance_sampling import AnnealedImportanceSampling
from pgnn.inference.sampling.annealing import (
    Annealing,
    GeometricCooling,
    LinearCooling,
    LogarithmicCooling,
)
from pgnn.inference.sampling.gibbs import Gibbs
from pgnn.inference.sampling.importance_sampling import ImportanceSampling
from pgnn.inference.sampling.simulation import Simulation
from pgnn.inference.search.branch_and_bound import BranchAndBound
from pgnn.inference.search.dual_decomposition import DualDecomposition
from pgnn.inference.time.beam_search import BeamSearch
from pgnn.inference.time.boyen_koller import BoyenKoller
from pgnn.inference.time.forward_backward import ForwardBackward
from pgnn.inference.time.interface_algorithm import InterfaceAlgorithm
from pgnn.inference.time.kalman_filter import KalmanFilter
from pgnn.inference.time.online_filter import OnlineFilter
from pgnn.inference.time.prefix_search import PrefixSearch
from pgnn.inference.time.sequence_completion import SequenceCompletion
from pgnn.inference.time.sequential_monte_carlo import SequentialMonteCarlo
from pgnn.inference.time.switching_kalman_filter import SwitchingKalmanFilter
from pgnn.io import from_pgmpy, load, read, read_evidence, save, to_pgmpy, write
from pgnn.models import (
    CTC,
    GAN,
    VAE,
    AmortisedNetwork,
    AttributeScores,
    Autoencoder,
    AutoregressiveModel,
    BayesianNetwork,
    BayesianRegression,
    BidirectionalGAN,
    BoltzmannMachine,
    ChowLiuTree,
    ConditionalRandomField,
    CycleGAN,
    DeepBeliefNetwork,
    DeepBoltzmannMachine,
    DenseHopfield,
    Density,
    DynamicBayesianNetwork,
    EnergyModel,
    FactorAnalysis,
    GaussianDiscriminant,
    GaussianMarkovField,
    GraphRandomField,
    HiddenMarkovModel,
    HiddenSemiMarkovModel,
    Hopfield,
    LabelAutomaton,
    LanguageModel,
    LaplacianPyramidGAN,
    LinearDynamicalSystem,
    LinearRegression,
    LogisticRegression,
    MarkovRandomField,
    Mixture,
    Model,
    ModelMixture,
    NaiveBayes,
    NeuralScores,
    PointerNetwork,
    PrincipalComponents,
    Regression,
    RestrictedBoltzmannMachine,
    SemiMarkovField,
    SequenceToSequence,
    SigmoidBeliefNetwork,
    SparseCoding,
    StackedAutoencoder,
    StepScores,
    VectorQuantisedAutoencoder,
    bio_mask,
)
from pgnn.programs.program import Program

__version__ = "0.1.0"

# fmt: off
__all__ = [
    # pieces
    "Variable", "Factor", "Conditional", "Tabular", "Sigmoid", "NoisyOr", "NoisyMax", "NoisyAnd",
    "NoisyMin", "Softmax", "Neural", "NormalHead", "BernoulliHead", "Concatenate", "ByName",
    "ScaledPosterior", "Gaussian", "GaussianMixture", "LinearGaussian", "BayesianLinear",
    "Logistic", "Poisson", "Bernoulli", "Multinomial", "Distributional", "SparsePrior",
    "SparsePenalty", "AbsolutePenalty", "LogPenalty", "ExpPenalty",
    "NeuralHead", "DiscretisedLogisticHead", "PointMassHead", "VampPrior", "Codebook",
    # densities made of rows
    "Histogram", "KernelDensity", "NearestNeighbours", "Bandwidth", "Scott", "Silverman",
    "LeaveOneOut", "SmoothingKernel", "GaussianKernel", "TophatKernel", "EpanechnikovKernel",
    "ExponentialKernel", "LinearKernel", "CosineKernel", "Full", "Tied", "Diagonal", "Spherical",
    "LedoitWolf",
    "Potential", "TabularPotential", "Ising", "Potts", "Lattice", "LogLinear", "Coupling", "Bias",
    "LinearPotential", "NeuralPotential",
    # rooms
    "abilities", "divergences", "metrics", "neural", "plot", "sensitivity",
    # models
    "Model", "BayesianNetwork", "MarkovRandomField", "HiddenMarkovModel", "HiddenSemiMarkovModel",
    "LinearDynamicalSystem", "Program", "DynamicBayesianNetwork", "NaiveBayes", "Mixture",
    "ModelMixture", "ChowLiuTree", "FactorAnalysis", "PrincipalComponents", "GaussianDiscriminant",
    "GaussianMarkovField", "Density", "SparseCoding", "Regression", "LinearRegression",
    "LogisticRegression", "BayesianRegression", "ConditionalRandomField", "GraphRandomField",
    "SemiMarkovField", "CTC",
    "StepScores",
    "AttributeScores", "NeuralScores", "bio_mask", "LabelAutomaton", "EnergyModel",
    "BoltzmannMachine", "RestrictedBoltzmannMachine", "Hopfield", "DenseHopfield",
    "SigmoidBeliefNetwork",
    "DeepBoltzmannMachine", "DeepBeliefNetwork", "GAN", "BidirectionalGAN", "CycleGAN",
    "LaplacianPyramidGAN", "AutoregressiveModel", "LanguageModel", "SequenceToSequence",
    "PointerNetwork", "AmortisedNetwork", "VAE", "Autoencoder", "StackedAutoencoder",
    "VectorQuantisedAutoencoder", "OnlineFilter",
    # answers
    "Posterior", "Assignment", "KBest", "Samples",
    # engines, and what one that is written outside needs
    "Engine", "Question", "Beliefs", "Best", "Automatic", "AutomaticUnits", "JunctionTree",
    "BlockElimination", "ByComponent", "SparseNormal", "ForwardBackward", "PrefixSearch",
    "KalmanFilter", "SwitchingKalmanFilter", "InterfaceAlgorithm", "BoyenKoller",
    "BeliefPropagation", "Flooding",
    "BeamSearch", "SequenceCompletion",
    "Sequential", "Residual", "MeanField", "Slices", "Gibbs", "MCMC", "ImportanceSampling",
    "Simulation", "ExecutionSampling", "ExecutionEnumeration", "SequentialMonteCarlo",
    "Resampling", "AnnealedImportanceSampling", "HamiltonianAnnealing",
    "Annealing", "GeometricCooling", "LinearCooling",
    "LogarithmicCooling", "DualDecomposition", "BranchAndBound", "Variational",
    # guides and objectives of Variational
    "MeanFieldNormal", "LowRankNormal", "FullRankNormal", "Flow", "Delta", "Amortised", "Elbo",
    "ImportanceWeighted", "Renyi", "ScoreFunction",
    # learners and priors
    "Learner", "MaximumLikelihood", "Gradient", "PseudoLikelihood", "Perceptron", "MaxMargin",
    "VariationalBayes", "EM", "OverRelaxation",
    "Checkpoints", "ContrastiveDivergence", "WakeSleep", "Adversarial", "MinMax", "NonSaturating",
    "MeanProbability", "LeastSquares", "Wasserstein", "WassersteinGradientPenalty", "Hinge",
    "GreedyLayerwise", "Hebbian", "PseudoInverse", "Unlearning", "KMeans", "SelfTraining",
    "CoTraining", "EntropyRegularization", "PriorShift", "Laplace", "BDeu", "K2", "Dirichlet",
    "NormalWishart", "ParameterPrior", "NormalPrior", "LaplacePrior", "Gamma", "Beta", "codes",
    "likelihood", "missing_indicators", "observed", "states_of",
    "LowerBound",
    # files
    "read", "write", "load", "save", "read_evidence", "from_pgmpy", "to_pgmpy",
    # errors
    "PgnnError", "ModelError", "EvidenceError", "ImpossibleEvidence", "Intractable", "Unsupported",
    "DataError", "NotConverged",
]
# fmt: on
