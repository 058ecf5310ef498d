"""OpenL3's weights: both layouts of Keras, zipped or not, and everything that is refused."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from narrow_openl3 import Arrays, make_random_weights, narrow, random_layers, write_layers

from pipeline import weights as weight_files
from pipeline.audio.extractor import build_extractor
from pipeline.errors import WeightsError
from pipeline.extraction.teachers.openl3.checkpoint import load_checkpoint
from pipeline.extraction.teachers.openl3.network import Network
from pipeline.registry import find_teacher

CARD = find_teacher("openl3")
NAME = "openl3_audio_mel128_music-v0_4_0.h5"


def load(path: Path, width: int = 2) -> Network:
    network = Network(width, (16, 24))
    load_checkpoint(network, path, f"OpenL3 of width {width}")
    return network


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return make_random_weights(tmp_path / NAME, width=2)


def test_arrays_reach_their_places(plain: Path) -> None:
    network, layers = load(plain), dict(random_layers(2))
    for name, module in {
        "conv2d_41": network.convs[0],
        "conv2d_44": network.convs[3],
        "audio_embedding_layer": network.convs[7],
    }.items():
        kernel = torch.from_numpy(layers[name]["kernel"]).float()
        torch.testing.assert_close(module.weight[1, 0, 2, 0], kernel[2, 0, 0, 1])
        torch.testing.assert_close(module.weight, kernel.permute(3, 2, 0, 1))
    norm, last = layers["batch_normalization_57"], layers["batch_normalization_64"]
    assert float(network.norm.running_var) == pytest.approx(float(norm["moving_variance"][0]))
    assert network.norms[6].running_mean.tolist() == pytest.approx(last["moving_mean"].tolist())
    assert network.norms[6].bias.tolist() == pytest.approx(last["beta"].tolist())
    assert network.norms[6].weight.tolist() == pytest.approx(last["gamma"].tolist())


@pytest.mark.parametrize("name", [NAME, f"{NAME}.gz", "another_name"])
@pytest.mark.parametrize("below", ["/", "model_weights"])
def test_both_layouts_zipped_or_not(name: str, below: str, tmp_path: Path, plain: Path) -> None:
    path = tmp_path / "other" / name
    path.parent.mkdir()
    write_layers(path, random_layers(2), below=below)
    wanted = load(plain).state_dict()
    assert all(torch.equal(tensor, wanted[key]) for key, tensor in load(path).state_dict().items())


def changed(path: Path, change: Callable[[dict[str, Arrays]], object]) -> Path:
    layers = dict(random_layers(2))
    change(layers)
    write_layers(path, iter(layers.items()))
    return path


def test_a_missing_layer_is_told(plain: Path) -> None:
    changed(plain, lambda layers: layers.pop("conv2d_44"))
    with pytest.raises(WeightsError, match=rf"{NAME} is not OpenL3 of width 2: 15 layers with weights, expected 16"):
        load(plain)


def test_a_file_of_before_version_0_4_is_told(plain: Path) -> None:
    changed(plain, lambda layers: layers.update(melspectrogram_1={"real_kernels": np.zeros(3)}))
    with pytest.raises(WeightsError, match=r"spectrogram layer, as files before version 0\.4 have: use a v0_4_0 file"):
        load(plain)


def test_a_missing_array_is_told(plain: Path) -> None:
    changed(plain, lambda layers: layers["conv2d_44"].pop("bias"))
    with pytest.raises(WeightsError, match=r"layer conv2d_44 has \['kernel'\], expected \['bias', 'kernel'\]"):
        load(plain)


def test_layers_in_another_order_are_told(plain: Path) -> None:
    def swap(layers: dict[str, Arrays]) -> None:
        layers["conv2d_41"], layers["batch_normalization_57"] = layers["batch_normalization_57"], layers["conv2d_41"]

    with pytest.raises(WeightsError, match="layer batch_normalization_57 has"):
        load(changed(plain, swap))


def test_another_width_is_told_by_the_shape(plain: Path) -> None:
    with pytest.raises(WeightsError, match=r"conv2d_41/kernel has shape \[3, 3, 1, 2\], expected \[3, 3, 1, 4\]"):
        load(plain, width=4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_told(plain: Path, value: float) -> None:
    changed(plain, lambda layers: layers["conv2d_44"]["kernel"].__setitem__((1, 1, 0, 0), value))
    with pytest.raises(WeightsError, match="conv2d_44/kernel holds values that are not finite"):
        load(plain)


def test_a_negative_variance_is_told(plain: Path) -> None:
    changed(plain, lambda layers: layers["batch_normalization_60"]["moving_variance"].fill(-1))
    with pytest.raises(WeightsError, match="batch_normalization_60/moving_variance holds values"):
        load(plain)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.9])
def test_part_of_a_file_is_told(kept: float, zipped: bool, tmp_path: Path) -> None:
    path = make_random_weights(tmp_path / (f"{NAME}.gz" if zipped else NAME), width=2)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(WeightsError, match=rf"{NAME}.*(cut short|damaged|no HDF5 file)"):
        load(path)


def test_damaged_files_are_refused_or_read(plain: Path) -> None:
    """Bytes changed anywhere: an error in words, or (in the numbers themselves) a network."""
    content, random = plain.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(content)
        for at in random.integers(0, 6000, 4):
            damaged[at] = random.integers(0, 256)
        plain.write_bytes(damaged)
        try:
            load(plain)
        except WeightsError:
            refused += 1
    assert refused > 20


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


def test_other_files_are_told_and_nothing_in_them_is_run(tmp_path: Path) -> None:
    target, path = tmp_path / "boom", tmp_path / "weights.h5"
    torch.save({"model": Bomb(target)}, path)
    with pytest.raises(WeightsError, match=r"is no HDF5 file, gzipped or not"):
        load(path)
    path.write_bytes(gzip.compress(pickle.dumps(Bomb(target))))
    with pytest.raises(WeightsError, match=r"is no HDF5 file, gzipped or not"):
        load(path)
    assert not target.exists()


def test_an_hdf5_file_of_another_kind_is_told(tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["features"] = np.zeros(3)
    with pytest.raises(WeightsError, match=r"none that Keras wrote|link to elsewhere"):
        load(path)


def test_what_unzips_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.h5.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(260):
            file.write(bytes(1 << 20))
    with pytest.raises(WeightsError, match="has more than 256 MiB"):
        load(path)


KERNEL = "conv2d_44/conv2d_44/kernel:0"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A file with a kernel of the right shape, which links lead to."""
    path = tmp_path / "elsewhere.h5"
    with h5py.File(path, "w") as file:
        file["kernel"] = np.ones((3, 3, 4, 4), np.float32)
    path.with_suffix(".raw").write_bytes(np.ones((3, 3, 4, 4), np.float32).tobytes())
    return path


def external_link(file: h5py.File, other: Path) -> None:
    file[KERNEL] = h5py.ExternalLink(str(other), "/kernel")


def soft_link(file: h5py.File, other: Path) -> None:
    file["copy"] = np.ones((3, 3, 4, 4), np.float32)
    file[KERNEL] = h5py.SoftLink("/copy")


def external_storage(file: h5py.File, other: Path) -> None:
    raw = [(str(other.with_suffix(".raw")), 0, 576)]
    file.create_dataset(KERNEL, (3, 3, 4, 4), np.float32, external=raw)


def virtual(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((3, 3, 4, 4), np.float32)
    layout[...] = h5py.VirtualSource(str(other), "kernel", (3, 3, 4, 4))
    file.create_virtual_dataset(KERNEL, layout)


def huge(file: h5py.File, other: Path) -> None:
    file.create_dataset(KERNEL, (3, 3, 1 << 20, 1 << 20), np.float32)


def text(file: h5py.File, other: Path) -> None:
    file[KERNEL] = ["os.system"]


def group(file: h5py.File, other: Path) -> None:
    file.create_group(KERNEL)


@pytest.mark.parametrize("replace", [external_link, soft_link, external_storage, virtual, huge, text, group])
def test_what_does_not_lie_in_the_file_is_refused(
    replace: Callable[[h5py.File, Path], None], plain: Path, elsewhere: Path
) -> None:
    with h5py.File(plain, "a") as file:
        del file[KERNEL]
        replace(file, elsewhere)
    with pytest.raises(WeightsError, match=rf"{NAME}: .*conv2d_44.*It was refused; use the official file"):
        load(plain)


def test_a_description_of_the_model_is_not_looked_at(plain: Path) -> None:
    """Whole models carry layers of Python code; only arrays are read."""
    with h5py.File(plain, "a") as file:
        file.attrs["model_config"] = b'{"class_name": "Lambda", "config": {"function": ["4wEAAAAA", null, null]}}'
    load(plain)


def test_files_are_as_many_as_on_the_card(plain: Path) -> None:
    with pytest.raises(WeightsError, match=rf"takes 1 file of weights \({NAME}\.gz\), not 2.*east weights get openl3"):
        build_extractor(narrow(CARD, 2), weights=(plain, plain))


def test_absent_weights_say_what_to_get_and_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weight_files.CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        weight_files.fetch(CARD.weights[0], offline=True)
    message = str(caught.value)
    assert f"{NAME}.gz for openl3 (size not known, digest not known)" in message
    assert f"https://github.com/marl/openl3/raw/models/{NAME}.gz" in message
    assert str(tmp_path / "openl3" / f"{NAME}.gz") in message


def test_a_file_put_there_by_hand_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weight_files.CACHE_VARIABLE, str(tmp_path))
    place = weight_files.place(CARD.weights[0])
    place.parent.mkdir(parents=True)
    make_random_weights(place, width=2)
    load(weight_files.fetch(CARD.weights[0], offline=True))
