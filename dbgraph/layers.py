"""All layers and losses: `from dbgraph import layers as L`."""

from dbgraph.dsl.layers import ACTIVATIONS, Layer
from dbgraph.dsl.layers_dense import Dense, Embedding, LayerNorm
from dbgraph.dsl.layers_image import Conv2D, LocalContrastNorm, LocallyConnected2D, Pool2D
from dbgraph.dsl.layers_shape import (
    Activation,
    Add,
    ArgMax,
    Concat,
    Dropout,
    Flatten,
    Reshape,
    Softmax,
)
from dbgraph.dsl.losses import LogisticLoss, MeanSquaredError, SoftmaxCrossEntropy

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Add",
    "ArgMax",
    "Concat",
    "Conv2D",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "Layer",
    "LayerNorm",
    "LocalContrastNorm",
    "LocallyConnected2D",
    "LogisticLoss",
    "MeanSquaredError",
    "Pool2D",
    "Reshape",
    "Softmax",
    "SoftmaxCrossEntropy",
]
