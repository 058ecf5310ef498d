"""Soft knowledge distillation: the student's scores follow the teacher probe's scores.

Source: Hinton, Vinyals and Dean, 2015; binary form as in Ding and Lerch, ISMIR 2023.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def soft_kd_binary(student: Tensor, teacher: Tensor, mask: Tensor, tau: float) -> Tensor:
    """KL(sigmoid(t / tau) || sigmoid(s / tau)), mean over the entries that count.

    Not yet scaled by ``tau`` squared; see :func:`pipeline.distillation.losses.compose.LossSettings`.

    Shape:
        student, teacher: [batch, classes], logits.
        mask: [batch, classes], bool.
    """
    s, t = student / tau, teacher / tau
    p = t.sigmoid()
    yes = p * (F.logsigmoid(t) - F.logsigmoid(s))
    no = (1 - p) * (F.logsigmoid(-t) - F.logsigmoid(-s))
    return ((yes + no) * mask).sum() / mask.sum().clamp(min=1)


def soft_kd_softmax(student: Tensor, teacher: Tensor, mask: Tensor, tau: float) -> Tensor:
    """KL(softmax(t / tau) || softmax(s / tau)), mean over clips whose row wholly counts.

    Shape:
        student, teacher: [batch, classes], logits.
        mask: [batch, classes], bool.
    """
    rows = mask.all(dim=1)
    log_s, log_t = F.log_softmax(student / tau, dim=1), F.log_softmax(teacher / tau, dim=1)
    each = (log_t.exp() * (log_t - log_s)).sum(1)
    return (each * rows).sum() / rows.sum().clamp(min=1)
