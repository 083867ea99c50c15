"""Modules of torch that plug into models, and models that plug into networks."""

from pgnn.neural.structured_attention import (
    ChainAttention,
    ConstituentAttention,
    DependencyAttention,
    StructuredAttention,
)

__all__ = [
    "ChainAttention",
    "ConstituentAttention",
    "DependencyAttention",
    "StructuredAttention",
]
