"""PANNs' checkpoints: official names and shapes, and every way a file can be wrong."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from narrow_panns import PUBLISHED, make_random_checkpoint, narrow

from pipeline import weights
from pipeline.audio.extractor import build_extractor
from pipeline.cards import ExtractorCard
from pipeline.errors import WeightsError
from pipeline.events import Event, Warned
from pipeline.extraction.teachers.panns.card import CARDS
from pipeline.extraction.teachers.panns.network import ARCHITECTURES, build_network
from pipeline.registry import find_teacher

CARD = find_teacher("panns")
NARROW = narrow(CARD, 2)


def load(path: Path, card: ExtractorCard = NARROW) -> None:
    build_extractor(card, weights=(path,))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    make_random_checkpoint(tmp_path / "net.pth", width=2)
    return tmp_path / "net.pth"


def change(path: Path, **tensors: torch.Tensor | None) -> Path:
    state = torch.load(path, weights_only=True)["model"]
    for name, tensor in tensors.items():
        key = name.replace("__", ".")
        state.pop(key, None)
        if tensor is not None:
            state[key] = tensor
    torch.save({"model": state}, path)
    return path


OFFICIAL = {
    "Cnn14": (84, {"conv_block6.conv2.weight": (2048, 2048, 3, 3), "fc1.weight": (2048, 2048)}),
    "Cnn14_DecisionLevelMax": (84, {"conv_block6.conv2.weight": (2048, 2048, 3, 3), "fc1.weight": (2048, 2048)}),
    "Cnn14_pruned": (
        84,
        {
            "conv_block3.conv2.weight": (256, 256, 3, 3),
            "conv_block4.conv1.weight": (256, 256, 3, 3),
            "conv_block5.conv1.weight": (512, 256, 3, 3),
            "conv_block6.conv2.weight": (1024, 1024, 3, 3),
            "fc1.weight": (2048, 1024),
        },
    ),
    "Cnn10": (60, {"conv_block1.conv1.weight": (64, 1, 3, 3), "conv_block4.conv2.weight": (512, 512, 3, 3)}),
    "Cnn6": (36, {"conv_block1.conv1.weight": (64, 1, 5, 5), "conv_block4.conv1.weight": (512, 256, 5, 5)}),
    "MobileNetV1": (
        174,
        {
            "features.0.0.weight": (32, 1, 3, 3),
            "features.0.2.running_var": (32,),
            "features.1.0.weight": (32, 1, 3, 3),
            "features.13.4.weight": (1024, 1024, 1, 1),
            "features.13.5.weight": (1024,),
            "fc1.weight": (1024, 1024),
        },
    ),
    "MobileNetV2": (
        324,
        {
            "features.1.conv.0.weight": (32, 1, 3, 3),
            "features.1.conv.5.bias": (16,),
            "features.2.conv.3.weight": (96, 1, 3, 3),
            "features.17.conv.7.weight": (320, 960, 1, 1),
            "features.18.0.weight": (1280, 320, 1, 1),
            "fc1.weight": (1024, 1280),
        },
    ),
}
"""How many tensors the original classes have, and shapes of some."""


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_official_names_and_sizes(name: str) -> None:
    count, some = OFFICIAL[name]
    with torch.device("meta"):
        network = build_network(name, PUBLISHED[name])
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    everywhere = {
        "spectrogram_extractor.stft.conv_real.weight": (513, 1, 1024),
        "spectrogram_extractor.stft.conv_imag.weight": (513, 1, 1024),
        "logmel_extractor.melW": (513, 64),
        "bn0.running_mean": (64,),
    }
    assert shapes["fc_audioset.weight"][0] == 527
    assert len(shapes) == count
    assert {key: shapes.get(key) for key in some | everywhere} == some | everywhere


@pytest.mark.parametrize("card", CARDS, ids=[card.name for card in CARDS])
def test_cards_say_what_the_networks_are(card: ExtractorCard) -> None:
    with torch.device("meta"):
        network = build_network(str(card.parameters["network"]), int(card.parameters["width"] or 0))
    learned = [tensor for name, tensor in network.named_parameters() if "_extractor." not in name]
    assert card.n_parameters == sum(tensor.numel() for tensor in learned)
    assert card.output("clip").channels == network.embedding
    assert card.output("frames").channels == network.channels
    assert set(card.mode_errors) == {"fast", "half"}
    assert 0 < card.mode_errors["fast"] < card.tolerance
    assert card.weights[0].sha256 or card.weights[0].md5 or "no digest" in card.weights[0].note


def test_missing_and_unexpected_names_are_listed(checkpoint: Path) -> None:
    change(checkpoint, fc1__weight=None, att_block__att__weight=torch.zeros(1))
    with pytest.raises(
        WeightsError, match=r"net\.pth is not PANNs Cnn14 of width 2: missing fc1\.weight; not expected att"
    ):
        load(checkpoint)


def test_counters_of_batches_may_be_missing(checkpoint: Path) -> None:
    load(change(checkpoint, bn0__num_batches_tracked=None))


def test_another_width_is_told_by_the_shape(checkpoint: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"conv_block1\.conv1\.weight has shape \[2, 1, 3, 3\], expected \[4, 1, 3, 3\]"
    ):
        load(checkpoint, narrow(CARD, 4))


@pytest.mark.parametrize("given", ["Cnn10", "Cnn6", "MobileNetV1", "MobileNetV2"])
def test_another_network_of_the_collection_is_named(given: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    make_random_checkpoint(path, network=given)
    with pytest.raises(WeightsError, match=rf"weights\.pth is not PANNs Cnn14 of width 64 but {given}: missing"):
        load(path, CARD)


def test_a_network_otherwise_pruned_is_told(tmp_path: Path) -> None:
    path = tmp_path / "pruned.pt"
    make_random_checkpoint(path, network="Cnn14_pruned", width=2)
    state = torch.load(path, weights_only=True)
    for name in ("conv2.weight", "bn2.weight", "bn2.bias", "bn2.running_mean", "bn2.running_var"):
        state[f"conv_block6.{name}"] = state[f"conv_block6.{name}"][:9]
    state["fc1.weight"] = state["fc1.weight"][:, :9]
    torch.save(state, path)
    with pytest.raises(WeightsError, match=r"whose frames has 9 channels, where epanns has 32; it was pruned"):
        load(path, narrow(find_teacher("epanns"), 2))


def test_values_that_are_not_finite_are_told(checkpoint: Path) -> None:
    change(checkpoint, fc1__bias=torch.full((64,), torch.nan))
    with pytest.raises(WeightsError, match=r"net\.pth: fc1\.bias holds values that are not finite"):
        load(checkpoint)


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], {"model": {"a": 1}}, {}, {"model": {}}])
def test_a_checkpoint_of_another_kind_is_told(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r'x\.pth does not hold \{"model": tensors\}'):
        load(tmp_path / "x.pth")


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))])
def test_a_pickle_bomb_is_refused_and_does_not_go_off(tmp_path: Path, save: object) -> None:
    target, path = tmp_path / "boom", tmp_path / "bomb.pth"
    save({"model": {"fc1.weight": Bomb(target)}}, path)  # type: ignore[operator]
    with pytest.raises(WeightsError, match="refused and nothing in it was run"):
        load(path)
    assert not target.exists()


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.999])
def test_part_of_a_file_is_told(checkpoint: Path, part: float) -> None:
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(part * len(content))])
    with pytest.raises(WeightsError, match=r"net\.pth (cannot be read|is not a checkpoint)"):
        load(checkpoint)


def test_no_file_and_two_files_are_told(checkpoint: Path) -> None:
    for files in ((), (checkpoint, checkpoint)):
        with pytest.raises(
            WeightsError, match=rf"panns takes 1 file of weights \(Cnn14_mAP=0\.431\.pth\), not {len(files)}"
        ):
            build_extractor(NARROW, weights=files)


@pytest.mark.parametrize("name", ["panns", "panns-cnn10"])
def test_a_file_of_another_size_or_digest_is_told_and_used_under_its_own(name: str, checkpoint: Path) -> None:
    events: list[Event] = []
    path = weights.fetch(find_teacher(name).weights[0], local=checkpoint, listener=events.append)
    assert path == checkpoint
    assert isinstance(events[0], Warned)
    assert f"where {name} has" in events[0].text
    with pytest.raises(WeightsError, match="cut short"):
        weights.verify(find_teacher(name).weights[0], checkpoint)


def test_the_tables_in_the_checkpoint_are_those_of_the_transform() -> None:
    """So that the fast mode may use an FFT where the exact one uses the checkpoint's table."""
    network = build_network("Cnn14", 1)
    signal = torch.randn(1, 4096, generator=torch.Generator().manual_seed(0))
    by_table = network.spectrogram_extractor(signal)
    spectrum = torch.stft(signal, 1024, 320, window=torch.hann_window(1024), center=False, return_complex=True)
    torch.testing.assert_close(by_table, spectrum.abs().square().transpose(1, 2), rtol=1e-4, atol=1e-4)
