"""Knowledge distillation: the student's scores follow the teacher probe's scores, or its decisions.

Source: Hinton, Vinyals and Dean, 2015; binary form as in Ding and Lerch, ISMIR 2023.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pipeline.distillation.losses.bce import masked_bce, masked_cross_entropy


def soft_kd_binary(student: Tensor, teacher: Tensor, mask: Tensor, tau: float) -> Tensor:
    """KL(sigmoid(t / tau) || sigmoid(s / tau)), mean over the entries that count.

    Not yet scaled by ``tau`` squared; see :class:`pipeline.distillation.losses.settings.LossSettings`.

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


def hard_kd_binary(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy with the teacher's decisions: yes where its logit is above 0.

    Shape: as :func:`soft_kd_binary`.
    """
    return masked_bce(student, (teacher > 0).to(student.dtype), mask)


def hard_kd_softmax(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy with the teacher's most likely class, mean over clips whose row wholly counts.

    Shape: as :func:`soft_kd_softmax`.
    """
    chosen = F.one_hot(teacher.argmax(dim=1), teacher.shape[1]).to(student.dtype)
    return masked_cross_entropy(student, chosen, mask)
