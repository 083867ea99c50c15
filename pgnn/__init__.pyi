from . import (
    abilities,
    divergences,
    errors,
    evidence,
    factors,
    graphs,
    inference,
    io,
    metrics,
    models,
    neural,
    plot,
    sensitivity,
)
from .errors import (
    DataError,
    EvidenceError,
    ImpossibleEvidence,
    Intractable,
    ModelError,
    NotConverged,
    PgnnError,
    Unsupported,
)
from .evidence import codes, likelihood, missing_indicators, observed, states_of
from .factors import (
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
from .inference.assignment import Assignment, KBest
from .inference.automatic import Automatic
from .inference.automatic_units import AutomaticUnits
from .inference.beliefs import Beliefs, Best
from .inference.continuous.flow import Flow
from .inference.continuous.guides import (
    Amortised,
    Delta,
    FullRankNormal,
    LowRankNormal,
    MeanFieldNormal,
)
from .inference.continuous.hamiltonian_annealing import HamiltonianAnnealing
from .inference.continuous.lower_bound import LowerBound
from .inference.continuous.mcmc import MCMC
from .inference.continuous.objective import Elbo, ImportanceWeighted, Renyi, ScoreFunction
from .inference.continuous.variational import Variational
from .inference.engine import Engine
from .inference.exact.block_elimination import BlockElimination
from .inference.exact.by_component import ByComponent
from .inference.exact.junction_tree import JunctionTree
from .inference.exact.sparse_normal import SparseNormal
from .inference.learner import Learner
from .inference.learning.adversarial import Adversarial
from .inference.learning.adversarial_objectives import (
    Hinge,
    LeastSquares,
    MeanProbability,
    MinMax,
    NonSaturating,
    Wasserstein,
    WassersteinGradientPenalty,
)
from .inference.learning.checkpoints import Checkpoints
from .inference.learning.contrastive_divergence import ContrastiveDivergence
from .inference.learning.em import EM
from .inference.learning.entropy_regularization import EntropyRegularization
from .inference.learning.extrapolation import OverRelaxation
from .inference.learning.gradient import Gradient
from .inference.learning.greedy_layerwise import GreedyLayerwise
from .inference.learning.k_means import KMeans
from .inference.learning.max_margin import MaxMargin
from .inference.learning.maximum_likelihood import MaximumLikelihood
from .inference.learning.pattern_storage import Hebbian, PseudoInverse, Unlearning
from .inference.learning.perceptron import Perceptron
from .inference.learning.prior_shift import PriorShift
from .inference.learning.priors import K2, BDeu, Dirichlet, Laplace
from .inference.learning.pseudo_likelihood import PseudoLikelihood
from .inference.learning.self_training import CoTraining, SelfTraining
from .inference.learning.variational_bayes import VariationalBayes
from .inference.learning.wake_sleep import WakeSleep
from .inference.mean_field.block_ascent import Slices
from .inference.mean_field.mean_field import MeanField
from .inference.particles.execution_enumeration import ExecutionEnumeration
from .inference.particles.execution_sampling import ExecutionSampling
from .inference.particles.resampling import Resampling
from .inference.posterior import Posterior
from .inference.propagation.belief_propagation import BeliefPropagation
from .inference.propagation.schedules import Flooding, Residual, Sequential
from .inference.question import Question
from .inference.samples import Samples
from .inference.sampling.annealed_importance_sampling import AnnealedImportanceSampling
from .inference.sampling.annealing import (
    Annealing,
    GeometricCooling,
    LinearCooling,
    LogarithmicCooling,
)
from .inference.sampling.gibbs import Gibbs
from .inference.sampling.importance_sampling import ImportanceSampling
from .inference.sampling.simulation import Simulation
from .inference.search.branch_and_bound import BranchAndBound
from .inference.search.dual_decomposition import DualDecomposition
from .inference.time.beam_search import BeamSearch
from .inference.time.boyen_koller import BoyenKoller
from .inference.time.forward_backward import ForwardBackward
from .inference.time.interface_algorithm import InterfaceAlgorithm
from .inference.time.kalman_filter import KalmanFilter
from .inference.time.online_filter import OnlineFilter
from .inference.time.prefix_search import PrefixSearch
from .inference.time.sequence_completion import SequenceCompletion
from .inference.time.sequences_by_component import SequencesByComponent
from .inference.time.sequential_monte_carlo import SequentialMonteCarlo
from .inference.time.switching_kalman_filter import SwitchingKalmanFilter
from .io import from_pgmpy, load, read, read_evidence, save, to_pgmpy, write
from .models import (
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
    SequenceMixture,
    SequenceToSequence,
    SigmoidBeliefNetwork,
    SparseCoding,
    StackedAutoencoder,
    StepScores,
    VectorQuantisedAutoencoder,
    bio_mask,
)
from .programs.program import Program

__version__: str

# fmt: off
__all__ = [
    # rooms
    "errors", "evidence", "factors", "graphs", "inference", "io", "models",
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
    "ModelMixture", "SequenceMixture", "ChowLiuTree", "FactorAnalysis", "PrincipalComponents",
    "GaussianDiscriminant",
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
    "BlockElimination", "ByComponent", "SequencesByComponent", "SparseNormal", "ForwardBackward",
    "PrefixSearch",
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
