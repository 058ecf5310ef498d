"""Quick convolutions give what plain ones give."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.extraction.teachers import convolution
from pipeline.extraction.teachers.convolution import QuickConv


@pytest.fixture(autouse=True, params=["plain", "quick"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few channels take the plain way; both are tried."""
    if request.param == "quick":
        monkeypatch.setattr(convolution, "_LEAST_FILTERS", 1)


def conv_of(n_in: int, n_out: int, *, bias: bool = True) -> nn.Conv2d:
    torch.manual_seed(n_in + n_out)
    return nn.Conv2d(n_in, n_out, 3, padding=1, bias=bias).requires_grad_(False)


def signal(*shape: int) -> Tensor:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))
    return made.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("batch", "height", "width"),
    [(1, 1, 1), (2, 4, 4), (3, 5, 2), (1, 31, 2), (2, 62, 4), (1, 7, 13), (5, 9, 6), (1, 600, 3), (300, 2, 5)],
)
def test_it_is_the_plain_convolution(batch: int, height: int, width: int, bias: bool) -> None:
    conv, x = conv_of(3, 5, bias=bias), signal(batch, 3, height, width)
    wanted = F.relu(conv(x))
    found = QuickConv(conv)(x)
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=0, atol=5e-6)


def test_without_relu() -> None:
    conv, x = conv_of(3, 5), signal(2, 3, 6, 8)
    torch.testing.assert_close(QuickConv(conv, relu=False)(x), conv(x), rtol=0, atol=5e-6)


def test_many_channels_stay_within_float32_rounding() -> None:
    conv, x = conv_of(512, 256), signal(1, 512, 21, 9)
    exact = F.relu(conv.double()(x.double()))
    found = QuickConv(conv.float())(x)
    assert (found - exact).abs().max() < 2e-5 * exact.abs().max()


@pytest.mark.parametrize("affine", [True, False])
def test_a_batch_norm_is_folded_in(affine: bool) -> None:
    conv, x = conv_of(3, 5), signal(2, 3, 6, 8)
    norm = nn.BatchNorm2d(5, eps=1e-3, affine=affine).eval().requires_grad_(False)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    if affine:
        norm.weight.uniform_(-1, 1)
        norm.bias.normal_()
    torch.testing.assert_close(QuickConv(conv, norm)(x), F.relu(norm(conv(x))), rtol=0, atol=1e-5)


def test_a_clip_is_what_it_is_alone() -> None:
    conv, x = QuickConv(conv_of(4, 4)), signal(7, 4, 40, 8)
    together = conv(x)
    for index in range(len(x)):
        torch.testing.assert_close(conv(x[index : index + 1])[0], together[index], rtol=0, atol=5e-6)


def test_the_input_is_left_alone_and_need_not_be_contiguous() -> None:
    conv, x = conv_of(3, 4), signal(2, 3, 8, 12)
    part, before = x[:, :, 1:, ::2], x.clone()
    torch.testing.assert_close(QuickConv(conv)(part), F.relu(conv(part)), rtol=0, atol=5e-6)
    assert torch.equal(x, before)


def test_sixteen_bits_take_the_plain_way() -> None:
    conv, x = conv_of(3, 4), signal(2, 3, 8, 8).bfloat16()
    found = QuickConv(conv).bfloat16()(x)
    assert torch.equal(found, F.relu(F.conv2d(x, conv.weight.bfloat16(), conv.bias.bfloat16(), padding=1)))


@pytest.mark.parametrize("changes", [{"stride": 2}, {"padding": 0}, {"dilation": 2}, {"kernel_size": 1}, {"groups": 2}])
def test_other_convolutions_are_refused(changes: dict[str, int]) -> None:
    conv = nn.Conv2d(4, 4, **({"kernel_size": 3, "padding": 1} | changes))
    with pytest.raises(ValueError, match="only plain 3 x 3"):
        QuickConv(conv)
