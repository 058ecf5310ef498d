"""PaSST under the names of the official checkpoint.

Source: ``models/passt.py`` of hear21passt 0.0.26, which follows timm's vision transformer with a
distillation token, and with one position embedding over frequency and one over time.  Patchout is a
matter of training and not here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.extraction.teachers.passt.card import CLASSES, COLUMNS, PATCH, ROWS, STRIDE

_EPSILON = 1e-6
_HIDDEN = 4
_TOKENS = 2


class PaSST(nn.Module):
    """Mel frames to the mean of the class and distillation tokens, and on to logits.

    Args:
        width: channels of a token; 768 in the published network.
        depth: transformer blocks; 12 there.
        heads: of attention; 12 there, of 64 channels each.
    """

    def __init__(self, width: int = 768, depth: int = 12, heads: int = 12) -> None:
        super().__init__()
        self.width = width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, width))
        self.new_pos_embed = nn.Parameter(torch.zeros(1, _TOKENS, width))
        self.freq_new_pos_embed = nn.Parameter(torch.zeros(1, width, ROWS, 1))
        self.time_new_pos_embed = nn.Parameter(torch.zeros(1, width, 1, COLUMNS))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(1, width, PATCH, STRIDE)})
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, _EPSILON)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, CLASSES))
        self.head_dist = nn.Linear(width, CLASSES)
        """In the checkpoint, unused by the original at inference."""

    def features(self, mel: Tensor, *, fast: bool) -> Tensor:
        """Log-mel frames to embeddings: [window, 128, frame], 16 to 1005 frames -> [window, width].

        Args:
            fast: fused attention, and of the last block only the two tokens that are read.
        """
        x = self.tokens(mel)
        for block in self.blocks[:-1]:
            x = block(x, fast=fast)
        x = self.blocks[-1](x, fast=fast, n_queries=_TOKENS if fast else None)
        tokens: Tensor = self.norm(x[:, :_TOKENS])
        return (tokens[:, 0] + tokens[:, 1]) / _TOKENS

    def logits(self, features: Tensor) -> Tensor:
        """[window, width] -> [window, 527], of AudioSet's classes before the sigmoid."""
        return self.head(features)  # type: ignore[no-any-return]

    def tokens(self, mel: Tensor) -> Tensor:
        """Patches with their positions behind the two tokens: [window, 2 + rows x columns, width].

        A short input uses the first columns of the embedding over time.
        """
        patches = self.patch_embed["proj"](mel[:, None])
        patches = patches + self.time_new_pos_embed[..., : patches.shape[3]] + self.freq_new_pos_embed
        own = torch.cat([self.cls_token, self.dist_token], 1) + self.new_pos_embed
        return torch.cat([own.expand(len(mel), -1, -1), patches.flatten(2).transpose(1, 2)], 1)


class _Block(nn.Module):
    """Attention and a perceptron, each on normalised input and added to it.

    The residual stream stays float32; in half mode the weights of ``attn`` and ``mlp`` are bfloat16.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, _EPSILON)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, _EPSILON)
        self.mlp = _Perceptron(width)

    def forward(self, x: Tensor, *, fast: bool, n_queries: int | None = None) -> Tensor:
        """[window, token, width]; only the first ``n_queries`` tokens where given."""
        half = self.mlp.fc1.weight.dtype
        x = x[:, :n_queries] + self.attn(self.norm1(x).to(half), fast=fast, n_queries=n_queries)
        return x + self.mlp(self.norm2(x).to(half))  # type: ignore[no-any-return]


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, *, fast: bool, n_queries: int | None) -> Tensor:
        """[window, token, width] -> the same, or its first ``n_queries`` tokens."""
        if n_queries is None:
            query, key, value = self._heads(self.qkv(x), 3)
        else:
            width = x.shape[2]
            weight, bias = self.qkv.weight, self.qkv.bias
            (query,) = self._heads(F.linear(x[:, :n_queries], weight[:width], bias[:width]), 1)
            key, value = self._heads(F.linear(x, weight[width:], bias[width:]), 2)
        if fast:
            mixed = F.scaled_dot_product_attention(query, key, value)
        else:
            scores = (query @ key.transpose(2, 3)) * query.shape[3] ** -0.5
            mixed = scores.softmax(-1) @ value
        return self.proj(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _heads(self, x: Tensor, n: int) -> tuple[Tensor, ...]:
        """[window, token, n x width] -> n times [window, head, token, channel]."""
        parts = x.view(*x.shape[:2], n, self.heads, -1).permute(2, 0, 3, 1, 4)
        return parts.unbind()


class _Perceptron(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, _HIDDEN * width)
        self.fc2 = nn.Linear(_HIDDEN * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[window, token, width]."""
        return self.fc2(F.gelu(self.fc1(x)))  # type: ignore[no-any-return]
