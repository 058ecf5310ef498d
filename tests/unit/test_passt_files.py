"""PaSST: official checkpoints are read strictly, and clips go through the whole of stage one."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from extracting import run, table_of, write_clips
from narrow_passt import DEPTH, HEADS, WIDTH, make_random_checkpoint, narrow

from pipeline import layout, weights
from pipeline.audio.extractor import build_extractor
from pipeline.errors import WeightsError
from pipeline.extraction.teachers.passt.network import PaSST
from pipeline.registry import find_teacher
from pipeline.stores import open_store

CARD = find_teacher("passt")
NARROW = narrow(CARD)


def load(*paths: Path, **sizes: int) -> None:
    build_extractor(narrow(CARD, **sizes), weights=paths)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    make_random_checkpoint(tmp_path / "net.pt", width=WIDTH, depth=DEPTH, heads=HEADS)
    return tmp_path / "net.pt"


def change(path: Path, **tensors: torch.Tensor | None) -> Path:
    state = torch.load(path, weights_only=True)
    for name, tensor in tensors.items():
        key = name.replace("__", ".")
        state.pop(key, None)
        if tensor is not None:
            state[key] = tensor
    torch.save(state, path)
    return path


def test_official_names_and_sizes() -> None:
    with torch.device("meta"):
        full = {name: tuple(tensor.shape) for name, tensor in PaSST().state_dict(keep_vars=True).items()}
    assert full["time_new_pos_embed"] == (1, 768, 1, 99)
    assert full["freq_new_pos_embed"] == (1, 768, 12, 1)
    assert full["new_pos_embed"] == (1, 2, 768)
    assert full["patch_embed.proj.weight"] == (768, 1, 16, 16)
    assert full["blocks.11.attn.qkv.weight"] == (2304, 768)
    assert full["blocks.0.mlp.fc1.weight"] == (3072, 768)
    assert full["head.1.weight"] == full["head_dist.weight"] == (527, 768)
    assert len(full) == 159
    assert sum(int(np.prod(shape)) for shape in full.values()) == CARD.n_parameters


def test_missing_and_unexpected_names_are_listed(checkpoint: Path) -> None:
    change(checkpoint, norm__weight=None, pos_embed=torch.zeros(1))
    with pytest.raises(
        WeightsError,
        match=r"net\.pt is not PaSST of 2 blocks of width 8 for 10 s: missing norm\.weight; not expected pos_",
    ):
        load(checkpoint)


def test_another_depth_is_told_by_the_names(checkpoint: Path) -> None:
    with pytest.raises(WeightsError, match=r"missing blocks\.2\.norm1\.weight, .* and 8 more; not expected nothing"):
        load(checkpoint, depth=3)


def test_another_width_is_told_by_the_shape(checkpoint: Path) -> None:
    with pytest.raises(WeightsError, match=r"cls_token has shape \[1, 1, 8\], expected \[1, 1, 16\]"):
        load(checkpoint, width=16)


def test_a_network_for_twenty_seconds_is_told(checkpoint: Path) -> None:
    change(checkpoint, time_new_pos_embed=torch.zeros(1, WIDTH, 1, 199))
    with pytest.raises(WeightsError, match=r"time_new_pos_embed has shape .* expected \[1, 8, 1, 99\]. .*20 s or 30 s"):
        load(checkpoint)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_not_finite_are_told(checkpoint: Path, value: float) -> None:
    change(checkpoint, norm__bias=torch.full((WIDTH,), value))
    with pytest.raises(WeightsError, match=r"net\.pt: norm\.bias holds values that are not finite"):
        load(checkpoint)


@pytest.mark.parametrize("content", [{"model": {"cls_token": torch.zeros(1)}}, [1, 2], {"cls_token": 1}])
def test_a_checkpoint_of_another_kind_is_told(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"x\.pt does not hold tensors by name"):
        load(tmp_path / "x.pt")


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))])
def test_a_pickle_bomb_is_refused_and_does_not_go_off(tmp_path: Path, save: Callable[[object, Path], object]) -> None:
    target, path = tmp_path / "boom", tmp_path / "bomb.pt"
    save({"cls_token": Bomb(target)}, path)
    with pytest.raises(WeightsError, match=r"bomb\.pt .*refused and nothing in it was run"):
        load(path)
    assert not target.exists()


@pytest.mark.parametrize("n_bytes", [0, 100, 10_000])
def test_part_of_a_file_is_told(checkpoint: Path, n_bytes: int) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:n_bytes])
    with pytest.raises(WeightsError, match=r"net\.pt"):
        load(checkpoint)


def test_one_file_is_needed(checkpoint: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"passt takes 1 file of weights \(passt-s-f128-p16-s10-ap.476-swa.pt\), not 2"
    ):
        load(checkpoint, checkpoint)


def test_where_weights_are_missing_the_file_and_its_origin_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(WeightsError, match=r"(?s)passt-s-f128-p16-s10-ap\.476-swa\.pt.*302903fa8c4a.*kkoutini/PaSST"):
        weights.fetch(CARD.weights[0], offline=True)


def test_clips_go_through_stage_one(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded, resampled, embedded and stored; settings in the request, the checkpoint given by hand."""
    monkeypatch.setenv("EAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EAST_PLUGINS", "narrow_passt")
    table = table_of(write_clips(tmp_path / "audio", 3, suffix="ogg"), tmp_path / "audio")
    report = run(table, "passt-narrow:window=0.32:hop=0.25/embedding+scene", weights=checkpoint, preflight=False)
    assert (report.n_done, report.n_failed) == (3, 0)
    name = "passt-narrow-hop0.25-window0.32"
    with open_store(layout.store_path("tiny", name, "embedding", "zarr")) as store:
        assert store.shape == (3, 5, WIDTH)
        assert store.meta.hop_s == 0.25
        assert store.meta.offset_s == -0.16
    with open_store(layout.store_path("tiny", name, "scene", "zarr")) as store:
        assert store.shape == (3, 1, WIDTH)


@pytest.mark.slow
def test_clips_go_through_the_full_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAST_HOME", str(tmp_path / "home"))
    make_random_checkpoint(tmp_path / "full.pt")
    table = table_of(write_clips(tmp_path / "audio", 2), tmp_path / "audio")
    report = run(table, "passt/all", weights=tmp_path / "full.pt")
    assert (report.n_done, report.n_failed) == (2, 0)
    with open_store(layout.store_path("tiny", "passt", "all", "zarr")) as store:
        assert store.shape == (2, 2, 1295)
        assert np.isfinite(store.read(np.arange(2))).all()
