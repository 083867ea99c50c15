"""Words read from columns of pixels, of which nobody says where a letter begins: CTC.

The letters of handwritten words (Kassel 1995; Taskar, Guestrin and Koller 2003) stand side by side
in a strip of 16 rows. A small convolutional network looks at each pair of columns; the likelihood
of a word is the sum over all alignments of its letters with these steps.
``python read_words.py 3400 40`` takes some minutes.
"""

from __future__ import annotations

import string
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from common import arguments, save
from torch import Tensor, nn

import pgnn

LETTERS = string.ascii_lowercase


class Columns(nn.Module):
    """Scores of a blank and the letters from about eleven columns around every other one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(16, 96, 7, padding=3, stride=2), nn.Conv1d(96, 96, 3, padding=1)
        self.out = nn.Linear(96, 1 + len(LETTERS))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x.transpose(1, 2)).relu()
        return self.out(self.second(hidden).relu().transpose(1, 2))
