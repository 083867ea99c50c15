"""Which labels of chunks may follow each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor



