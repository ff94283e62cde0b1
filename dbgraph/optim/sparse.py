"""Gradients of which only some rows are not zero: those of an embedding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a gradient; all others are zero.

    Attributes:
        indices: int64[rows], along axis 0 of the whole parameter; a row may stand there twice,
            then its values are added.
        values: [rows, …].
    """

    indices: np.ndarray
    values: np.ndarray

    def combined(self) -> Rows:
        """The same with each row once, in rising order."""
        unique, place = np.unique(self.indices, return_inverse=True)
        if len(unique) == len(self.indices):
            order = np.argsort(self.indices)
            return Rows(unique, self.values[order])
        values = np.zeros((len(unique), *self.values.shape[1:]), self.values.dtype)
        np.add.at(values, place, self.values)
        return Rows(unique, values)

    def joined(self, other: Rows) -> Rows:
        """The sum of both."""
        indices = np.concatenate((self.indices, other.indices))
        return Rows(indices, np.concatenate((self.values, other.values))).combined()

    def padded(self, outside: int) -> Rows:
        """Filled up to a power of two with zeros at row `outside`, so that few shapes occur."""
        missing = (1 << max(0, len(self.indices) - 1).bit_length()) - len(self.indices)
        indices = np.pad(self.indices, (0, missing), constant_values=outside)
        filler = np.zeros((missing, *self.values.shape[1:]), self.values.dtype)
        return Rows(indices, np.concatenate((self.values, filler)))
