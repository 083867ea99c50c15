"""Probabilistic graphical models and probabilistic programs with neural networks as parts."""

from pgnn.data import states_of
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
from pgnn.factors import (
    Conditional,
    Factor,
    Ising,
    Lattice,
    LogLinear,
    Neural,
    NeuralPotential,
    NoisyMax,
    NoisyOr,
    Potential,
    Potts,
    Sigmoid,
    Softmax,
    Tabular,
    TabularPotential,
    Variable,
)
from pgnn.inference.junction_tree import JunctionTree
from pgnn.inference.maximum_likelihood import MaximumLikelihood
from pgnn.inference.priors import K2, BDeu, Dirichlet, Laplace
from pgnn.io import from_pgmpy, load, read, read_evidence, save, to_pgmpy, write
from pgnn.models import BayesianNetwork, MarkovRandomField, Model

__version__ = "0.1.0"

__all__ = [
    # pieces
    "Variable",
    "Factor",
    "Conditional",
    "Tabular",
    "Sigmoid",
    "NoisyOr",
    "NoisyMax",
    "Softmax",
    "Neural",
    "Potential",
    "TabularPotential",
    "Ising",
    "Potts",
    "Lattice",
    "LogLinear",
    "NeuralPotential",
    # models
    "Model",
    "BayesianNetwork",
    "MarkovRandomField",
    # engines
    "JunctionTree",
    # learners and priors
    "MaximumLikelihood",
    "Laplace",
    "BDeu",
    "K2",
    "Dirichlet",
    "states_of",
    # files
    "read",
    "write",
    "load",
    "save",
    "read_evidence",
    "from_pgmpy",
    "to_pgmpy",
    # errors
    "PgnnError",
    "ModelError",
    "EvidenceError",
    "ImpossibleEvidence",
    "Intractable",
    "Unsupported",
    "DataError",
    "NotConverged",
]
