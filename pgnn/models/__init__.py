"""Model families, one file each."""

from pgnn.models.amortised_network import AmortisedNetwork
from pgnn.models.autoencoder import Autoencoder
from pgnn.models.autoregressive_model import AutoregressiveModel
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.bayesian_regression import BayesianRegression
from pgnn.models.bidirectional_gan import BidirectionalGAN
from pgnn.models.boltzmann_machine import BoltzmannMachine
from pgnn.models.chow_liu_tree import ChowLiuTree
from pgnn.models.conditional_random_field import ConditionalRandomField
from pgnn.models.ctc import CTC
from pgnn.models.cycle_gan import CycleGAN
from pgnn.models.deep_belief_network import DeepBeliefNetwork
from pgnn.models.deep_boltzmann_machine import DeepBoltzmannMachine
from pgnn.models.dense_hopfield import DenseHopfield
from pgnn.models.density import Density
from pgnn.models.dynamic_bayesian_network import DynamicBayesianNetwork
from pgnn.models.energy_model import EnergyModel
from pgnn.models.factor_analysis import FactorAnalysis
from pgnn.models.gan import GAN
from pgnn.models.gaussian_discriminant import GaussianDiscriminant
from pgnn.models.gaussian_markov_field import GaussianMarkovField
from pgnn.models.graph_random_field import GraphRandomField
from pgnn.models.hidden_markov_model import HiddenMarkovModel
from pgnn.models.hidden_semi_markov_model import HiddenSemiMarkovModel
from pgnn.models.hopfield import Hopfield
from pgnn.models.language_model import LanguageModel
from pgnn.models.laplacian_pyramid_gan import LaplacianPyramidGAN
from pgnn.models.linear_dynamical_system import LinearDynamicalSystem
from pgnn.models.linear_regression import LinearRegression
from pgnn.models.logistic_regression import LogisticRegression
from pgnn.models.markov_random_field import MarkovRandomField
from pgnn.models.mixture import Mixture
from pgnn.models.model import Model
from pgnn.models.model_mixture import ModelMixture
from pgnn.models.naive_bayes import NaiveBayes
from pgnn.models.principal_components import PrincipalComponents
from pgnn.models.regression import Regression
from pgnn.models.restricted_boltzmann_machine import RestrictedBoltzmannMachine
from pgnn.models.scores.attribute_scores import AttributeScores
from pgnn.models.scores.bio_mask import bio_mask
from pgnn.models.scores.label_automaton import LabelAutomaton
from pgnn.models.scores.neural_scores import NeuralScores
from pgnn.models.scores.step_scores import StepScores
from pgnn.models.semi_markov_field import SemiMarkovField
from pgnn.models.sequence_to_sequence import PointerNetwork, SequenceToSequence
from pgnn.models.sigmoid_belief_network import SigmoidBeliefNetwork
from pgnn.models.sparse_coding import SparseCoding
from pgnn.models.stacked_autoencoder import StackedAutoencoder
from pgnn.models.vae import VAE
from pgnn.models.vector_quantised_autoencoder import VectorQuantisedAutoencoder

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
