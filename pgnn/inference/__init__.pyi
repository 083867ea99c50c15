from .assignment import Assignment, KBest
from .automatic import Automatic
from .automatic_units import AutomaticUnits
from .beliefs import Beliefs, Best
from .continuous.flow import Flow
from .continuous.guides import (
    Amortised,
    Delta,
    FullRankNormal,
    LowRankNormal,
    MeanFieldNormal,
)
from .continuous.hamiltonian_annealing import HamiltonianAnnealing
from .continuous.lower_bound import LowerBound
from .continuous.mcmc import MCMC
from .continuous.objective import Elbo, ImportanceWeighted, Renyi, ScoreFunction
from .continuous.variational import Variational
from .engine import Engine
from .exact.block_elimination import BlockElimination
from .exact.by_component import ByComponent
from .exact.junction_tree import JunctionTree
from .exact.sparse_normal import SparseNormal
from .learner import Learner
from .learning.adversarial import Adversarial
from .learning.adversarial_objectives import (
    Hinge,
    LeastSquares,
    MeanProbability,
    MinMax,
    NonSaturating,
    Wasserstein,
    WassersteinGradientPenalty,
)
from .learning.checkpoints import Checkpoints
from .learning.contrastive_divergence import ContrastiveDivergence
from .learning.em import EM
from .learning.entropy_regularization import EntropyRegularization
from .learning.extrapolation import OverRelaxation
from .learning.gradient import Gradient
from .learning.greedy_layerwise import GreedyLayerwise
from .learning.k_means import KMeans
from .learning.max_margin import MaxMargin
from .learning.maximum_likelihood import MaximumLikelihood
from .learning.pattern_storage import Hebbian, PseudoInverse, Unlearning
from .learning.perceptron import Perceptron
from .learning.prior_shift import PriorShift
from .learning.priors import K2, BDeu, Dirichlet, Laplace
from .learning.pseudo_likelihood import PseudoLikelihood
from .learning.self_training import CoTraining, SelfTraining
from .learning.variational_bayes import VariationalBayes
from .learning.wake_sleep import WakeSleep
from .mean_field.block_ascent import Slices
from .mean_field.mean_field import MeanField
from .particles.execution_enumeration import ExecutionEnumeration
from .particles.execution_sampling import ExecutionSampling
from .particles.resampling import Resampling
from .posterior import Posterior
from .propagation.belief_propagation import BeliefPropagation
from .propagation.schedules import Flooding, Residual, Sequential
from .question import Question
from .samples import Samples
from .sampling.annealed_importance_sampling import AnnealedImportanceSampling
from .sampling.annealing import (
    Annealing,
    GeometricCooling,
    LinearCooling,
    LogarithmicCooling,
)
from .sampling.gibbs import Gibbs
from .sampling.importance_sampling import ImportanceSampling
from .sampling.simulation import Simulation
from .search.branch_and_bound import BranchAndBound
from .search.dual_decomposition import DualDecomposition
from .time.beam_search import BeamSearch
from .time.boyen_koller import BoyenKoller
from .time.forward_backward import ForwardBackward
from .time.interface_algorithm import InterfaceAlgorithm
from .time.kalman_filter import KalmanFilter
from .time.online_filter import OnlineFilter
from .time.prefix_search import PrefixSearch
from .time.sequence_completion import SequenceCompletion
from .time.sequences_by_component import SequencesByComponent
from .time.sequential_monte_carlo import SequentialMonteCarlo
from .time.switching_kalman_filter import SwitchingKalmanFilter

__all__ = [
    "Adversarial",
    "Amortised",
    "AnnealedImportanceSampling",
    "Annealing",
    "Assignment",
    "Automatic",
    "AutomaticUnits",
    "BDeu",
    "BeamSearch",
    "BeliefPropagation",
    "Beliefs",
    "Best",
    "BlockElimination",
    "BoyenKoller",
    "BranchAndBound",
    "ByComponent",
    "Checkpoints",
    "CoTraining",
    "ContrastiveDivergence",
    "Delta",
    "Dirichlet",
    "DualDecomposition",
    "EM",
    "Elbo",
    "Engine",
    "EntropyRegularization",
    "ExecutionEnumeration",
    "ExecutionSampling",
    "Flooding",
    "Flow",
    "ForwardBackward",
    "FullRankNormal",
    "GeometricCooling",
    "Gibbs",
    "Gradient",
    "GreedyLayerwise",
    "HamiltonianAnnealing",
    "Hebbian",
    "Hinge",
    "ImportanceSampling",
    "ImportanceWeighted",
    "InterfaceAlgorithm",
    "JunctionTree",
    "K2",
    "KBest",
    "KMeans",
    "KalmanFilter",
    "Laplace",
    "Learner",
    "LeastSquares",
    "LinearCooling",
    "LogarithmicCooling",
    "LowRankNormal",
    "LowerBound",
    "MCMC",
    "MaxMargin",
    "MaximumLikelihood",
    "MeanField",
    "MeanFieldNormal",
    "MeanProbability",
    "MinMax",
    "NonSaturating",
    "OnlineFilter",
    "OverRelaxation",
    "Perceptron",
    "Posterior",
    "PrefixSearch",
    "PriorShift",
    "PseudoInverse",
    "PseudoLikelihood",
    "Question",
    "Renyi",
    "Resampling",
    "Residual",
    "Samples",
    "ScoreFunction",
    "SelfTraining",
    "SequenceCompletion",
    "SequencesByComponent",
    "Sequential",
    "SequentialMonteCarlo",
    "Simulation",
    "Slices",
    "SparseNormal",
    "SwitchingKalmanFilter",
    "Unlearning",
    "Variational",
    "VariationalBayes",
    "WakeSleep",
    "Wasserstein",
    "WassersteinGradientPenalty",
]
