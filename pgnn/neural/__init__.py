"""Torch modules for use in models, and models for use as layers of networks.

A *body* maps ``(B, ...)`` or ``(B, T, ...)`` to features; a *head* maps features to the quantities
that a model uses: logits or a distribution of a :class:`~pgnn.Neural` conditional, scores of a
:class:`~pgnn.NeuralPotential`, parameters of a guide. The attribute ``out_features`` of a body is
its number of features; :class:`Readout` adds a linear head to it.
"""

from pgnn.neural.attention import (
    AdditiveScore,
    Attention,
    BilinearScore,
    DotScore,
    HardAttention,
    Score,
)
from pgnn.neural.augmentation import (
    ColourJitter,
    ColourNoise,
    RandomAffine,
    RandomFlip,
    Whitening,
)
from pgnn.neural.convolutions import (
    PositionBias,
    RandomShift,
    SpatialPyramidPool2d,
    SubSample2d,
    TableConv2d,
    local_response_norm,
)
from pgnn.neural.dcgan import MinibatchDiscrimination, dcgan_discriminator, dcgan_generator
from pgnn.neural.encoder_decoder import Decoder, Encoder, SequenceEncoder
from pgnn.neural.gated_cells import CoupledLSTMCell, PeepholeLSTMCell, ResetGRUCell
from pgnn.neural.graph_network import AtNodes, GraphConvolution, GraphNetwork, GraphState, arcs
from pgnn.neural.laplace_approximation import (
    FullCurvature,
    KroneckerCurvature,
    LaplaceApproximation,
)
from pgnn.neural.lenet import LeNet5
from pgnn.neural.map_attention import ChannelAttention, SpatialAttention
from pgnn.neural.memory import MemoryNetwork, Tape, TuringMachineCell
from pgnn.neural.monte_carlo_dropout import MonteCarloDropout, WeightNoise, smooth_labels
from pgnn.neural.output_heads import (
    CategoricalHead,
    DiscreteHead,
    Memory,
    MixtureDensityHead,
    OutputHead,
    PointerHead,
)
from pgnn.neural.real_time import RealTimeGradient
from pgnn.neural.recurrent import (
    AccumulatingCell,
    Bidirectional,
    JordanCell,
    LastStep,
    MemoryCell,
    NARXCell,
    Recurrent,
    ResidualCell,
    TimeDelay,
)
from pgnn.neural.recursive import Recursive
from pgnn.neural.sequence_head import SequenceHead
from pgnn.neural.structured_attention import (
    ChainAttention,
    ConstituentAttention,
    DependencyAttention,
    StructuredAttention,
)
from pgnn.neural.text_cnn import TextCNN
from pgnn.neural.transformer import (
    SinusoidalPositions,
    TransformerDecoder,
    TransformerEncoder,
    sinusoidal_positions,
    transformer,
)
from pgnn.neural.units import (
    Body,
    GaussianClasses,
    Highway,
    Maxout,
    RadialBasis,
    Readout,
    ScaledTanh,
    mlp,
)
from pgnn.neural.vision import (
    Dense,
    Inception,
    Residual,
    alexnet,
    densenet,
    highway,
    inception,
    resnet,
    vgg,
)
from pgnn.neural.word_vectors import SkipGram, letter_trigrams, skip_gram_rows

__all__ = [
    "AccumulatingCell",
    "AdditiveScore",
    "AtNodes",
    "Attention",
    "Bidirectional",
    "BilinearScore",
    "Body",
    "CategoricalHead",
    "ChainAttention",
    "ChannelAttention",
    "ColourJitter",
    "ColourNoise",
    "ConstituentAttention",
    "CoupledLSTMCell",
    "Decoder",
    "Dense",
    "DependencyAttention",
    "DiscreteHead",
    "DotScore",
    "Encoder",
    "FullCurvature",
    "GaussianClasses",
    "GraphConvolution",
    "GraphNetwork",
    "GraphState",
    "HardAttention",
    "Highway",
    "Inception",
    "JordanCell",
    "KroneckerCurvature",
    "LaplaceApproximation",
    "LastStep",
    "LeNet5",
    "Maxout",
    "Memory",
    "MemoryCell",
    "MemoryNetwork",
    "MinibatchDiscrimination",
    "MixtureDensityHead",
    "MonteCarloDropout",
    "NARXCell",
    "OutputHead",
    "PeepholeLSTMCell",
    "PointerHead",
    "PositionBias",
    "RadialBasis",
    "RandomAffine",
    "RandomFlip",
    "RandomShift",
    "Readout",
    "RealTimeGradient",
    "Recurrent",
    "Recursive",
    "ResetGRUCell",
    "Residual",
    "ResidualCell",
    "ScaledTanh",
    "Score",
    "SequenceEncoder",
    "SequenceHead",
    "SinusoidalPositions",
    "SkipGram",
    "SpatialAttention",
    "SpatialPyramidPool2d",
    "StructuredAttention",
    "SubSample2d",
    "TableConv2d",
    "Tape",
    "TextCNN",
    "TimeDelay",
    "TransformerDecoder",
    "TransformerEncoder",
    "TuringMachineCell",
    "WeightNoise",
    "Whitening",
    "alexnet",
    "arcs",
    "dcgan_discriminator",
    "dcgan_generator",
    "densenet",
    "highway",
    "inception",
    "letter_trigrams",
    "local_response_norm",
    "mlp",
    "resnet",
    "sinusoidal_positions",
    "skip_gram_rows",
    "smooth_labels",
    "transformer",
    "vgg",
]
