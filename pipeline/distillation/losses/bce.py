"""Label losses that skip what is not known.

Source: Ding and Lerch, ISMIR 2023, section 3.3 (OpenMIC's unknown labels do not count).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def masked_bce(logits: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy, mean over the known labels.

    Shape:
        logits, targets: [batch, classes], float32; targets in [0, 1].
        known: [batch, classes], bool.

    Returns:
        A scalar; 0, still attached to the graph, where nothing is known.
    """
    each = F.binary_cross_entropy_with_logits(logits, torch.where(known, targets, 0.0), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def masked_cross_entropy(logits: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy over classes that exclude each other, mean over clips whose row is wholly known.

    Shape:
        logits, targets: [batch, classes], float32; each known row of targets sums to 1.
        known: [batch, classes], bool.
    """
    rows = known.all(dim=1)
    each = -(torch.where(known, targets, 0.0) * F.log_softmax(logits, dim=1)).sum(dim=1)
    return (each * rows).sum() / rows.sum().clamp(min=1)
