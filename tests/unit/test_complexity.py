"""Counts that can be checked by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.evaluation.complexity import count_parameters, layer_macs, measure


def test_a_convolution_by_hand():
    layer = nn.Conv2d(3, 8, kernel_size=(3, 5), stride=2, padding=(1, 2))
    found = measure(layer, torch.zeros(1, 3, 10, 20))
    assert found.n_parameters == 8 * 3 * 3 * 5 + 8
    assert found.macs == (8 * 5 * 10) * (3 * 3 * 5)


def test_a_depthwise_convolution_sees_one_channel():
    found = measure(nn.Conv2d(16, 16, 3, padding=1, groups=16), torch.zeros(1, 16, 4, 4))
    assert found.macs == 16 * 4 * 4 * 9


def test_a_transposed_convolution_counts_its_inputs():
    found = measure(nn.ConvTranspose1d(4, 6, 3, stride=2), torch.zeros(1, 4, 10))
    assert found.macs == 4 * 10 * 3 * 6


def test_a_linear_layer_runs_once_per_frame():
    assert measure(nn.Linear(7, 3), torch.zeros(1, 5, 7)).macs == 5 * 7 * 3


def test_a_layer_used_twice_costs_twice_but_is_stored_once():
    layer = nn.Linear(4, 4)
    found = measure(nn.Sequential(layer, nn.ReLU(), layer), torch.zeros(1, 4))
    assert found.n_parameters == 20
    assert found.macs == 32
    assert found.by_layer == (("0", 32),)


def test_a_small_network_by_hand():
    network = nn.Sequential(
        nn.Conv1d(2, 4, 3, bias=False),
        nn.BatchNorm1d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )
    found = measure(network, torch.zeros(1, 2, 12))
    assert found.n_parameters == 2 * 4 * 3 + 2 * 4 + 4 * 5 + 5
    assert found.macs == 4 * 10 * 2 * 3 + 4 * 5
    assert found.uncounted == ()


def test_what_is_not_counted_is_named():
    network = nn.Sequential(nn.GRU(3, 2, batch_first=True))
    found = measure(network, torch.zeros(1, 4, 3))
    assert found.macs == 0
    assert found.uncounted == ("0 (GRU)",)


def test_the_mode_and_the_hooks_are_as_before():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    measure(network, torch.zeros(1, 2))
    assert network.training
    assert not network[0]._forward_hooks
    assert count_parameters(network) == 10


def test_unknown_layers_are_refused():
    with pytest.raises(TypeError, match="ReLU are not known"):
        layer_macs(nn.ReLU(), torch.zeros(1), torch.zeros(1))
