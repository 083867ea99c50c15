from .amortised_network import AmortisedNetwork
from .autoencoder import Autoencoder
from .autoregressive_model import AutoregressiveModel
from .bayesian_network import BayesianNetwork
from .bayesian_regression import BayesianRegression
from .bidirectional_gan import BidirectionalGAN
from .boltzmann_machine import BoltzmannMachine
from .chow_liu_tree import ChowLiuTree
from .conditional_random_field import ConditionalRandomField
from .ctc import CTC
from .cycle_gan import CycleGAN
from .deep_belief_network import DeepBeliefNetwork
from .deep_boltzmann_machine import DeepBoltzmannMachine
from .dense_hopfield import DenseHopfield
from .density import Density
from .dynamic_bayesian_network import DynamicBayesianNetwork
from .energy_model import EnergyModel
from .factor_analysis import FactorAnalysis
from .gan import GAN
from .gaussian_discriminant import GaussianDiscriminant
from .gaussian_markov_field import GaussianMarkovField
from .graph_random_field import GraphRandomField
from .hidden_markov_model import HiddenMarkovModel
from .hidden_semi_markov_model import HiddenSemiMarkovModel
from .hopfield import Hopfield
from .language_model import LanguageModel
from .laplacian_pyramid_gan import LaplacianPyramidGAN
from .linear_dynamical_system import LinearDynamicalSystem
from .linear_regression import LinearRegression
from .logistic_regression import LogisticRegression
from .markov_random_field import MarkovRandomField
from .mixture import Mixture
from .model import Model
from .model_mixture import ModelMixture
from .naive_bayes import NaiveBayes
from .principal_components import PrincipalComponents
from .regression import Regression
from .restricted_boltzmann_machine import RestrictedBoltzmannMachine
from .scores.attribute_scores import AttributeScores
from .scores.bio_mask import bio_mask
from .scores.label_automaton import LabelAutomaton
from .scores.neural_scores import NeuralScores
from .scores.step_scores import StepScores
from .semi_markov_field import SemiMarkovField
from .sequence_mixture import SequenceMixture
from .sequence_to_sequence import PointerNetwork, SequenceToSequence
from .sigmoid_belief_network import SigmoidBeliefNetwork
from .sparse_coding import SparseCoding
from .stacked_autoencoder import StackedAutoencoder
from .vae import VAE
from .vector_quantised_autoencoder import VectorQuantisedAutoencoder

__all__ = [
    "AutoregressiveModel",
    "CTC",
    "AmortisedNetwork",
    "Autoencoder",
    "StackedAutoencoder",
    "VAE",
    "VectorQuantisedAutoencoder",
    "LanguageModel",
    "PointerNetwork",
    "SequenceMixture",
    "SequenceToSequence",
    "DenseHopfield",
    "SigmoidBeliefNetwork",
    "DeepBoltzmannMachine",
    "DeepBeliefNetwork",
    "AttributeScores",
    "GraphRandomField",
    "SemiMarkovField",
    "BidirectionalGAN",
    "CycleGAN",
    "GAN",
    "LaplacianPyramidGAN",
    "BayesianNetwork",
    "BayesianRegression",
    "BoltzmannMachine",
    "ChowLiuTree",
    "ConditionalRandomField",
    "Density",
    "DynamicBayesianNetwork",
    "FactorAnalysis",
    "GaussianDiscriminant",
    "GaussianMarkovField",
    "EnergyModel",
    "HiddenMarkovModel",
    "HiddenSemiMarkovModel",
    "Hopfield",
    "LinearDynamicalSystem",
    "LinearRegression",
    "LogisticRegression",
    "MarkovRandomField",
    "Mixture",
    "Model",
    "ModelMixture",
    "NaiveBayes",
    "PrincipalComponents",
    "Regression",
    "SparseCoding",
    "NeuralScores",
    "StepScores",
    "bio_mask",
    "LabelAutomaton",
    "RestrictedBoltzmannMachine",
]
