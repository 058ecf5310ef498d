"""Folders of models: what is refused and in which words, what loads though it is written otherwise."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from narrow_hf import build_model, save_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.errors import WeightsError
from pipeline.registry import find_teacher
from pipeline.weights.models import fetch_model

SAFE, BIN = "model.safetensors", "pytorch_model.bin"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("hubert", "whisper"):
        save_model(name, folder)
    return folder


@pytest.fixture
def hubert(models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(models / "hubert", tmp_path / "hubert"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change(path: Path, alter: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    save_file(alter(load_file(path / SAFE)), path / SAFE, metadata={"format": "pt"})


def rename(path: Path, new_name: Callable[[str], str]) -> None:
    change(path, lambda state: {new_name(key): tensor for key, tensor in state.items()})


def features(path: Path) -> Tensor:
    audio = torch.randn(1, 9000, generator=torch.Generator().manual_seed(0))
    found: Tensor = build_model("", path)(audio, torch.tensor([9000]))["frames"].features
    return found


def refused(path: Path, says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        build_model("", path)


def test_missing_weights_are_an_error_not_random_numbers(hubert: Path) -> None:
    change(hubert, lambda state: {key: value for key, value in state.items() if "layers.1." not in key})
    refused(hubert, r"hubert does not hold the weights of HubertModel .*missing encoder\.layers\.1\..* and 14 more")


def test_weights_of_another_width_are_told_by_their_shape(hubert: Path) -> None:
    edit(hubert / "config.json", intermediate_size=40)
    refused(hubert, r"output_dense\.weight has shape \[24, 32\], expected \[24, 40\]")


def test_weights_of_heads_and_of_training_may_be_missing_or_there(hubert: Path) -> None:
    wanted = features(hubert)
    change(hubert, lambda state: state | {"lm_head.weight": torch.zeros(3, 24)})
    change(hubert, lambda state: {key: value for key, value in state.items() if key != "masked_spec_embed"})
    assert torch.equal(features(hubert), wanted)


def test_values_that_are_not_finite_are_told(hubert: Path) -> None:
    change(hubert, lambda state: state | {"encoder.layer_norm.weight": torch.full((24,), torch.inf)})
    refused(hubert, r"encoder\.layer_norm\.weight holds values that are not finite")


@pytest.mark.parametrize("n_bytes", [0, 5, 9000])
def test_half_a_safetensors_file_is_told(hubert: Path, n_bytes: int) -> None:
    (hubert / SAFE).write_bytes((hubert / SAFE).read_bytes()[:n_bytes])
    refused(hubert, r"hubert cannot be read as HubertModel; nothing in it was run\. SafetensorError")


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))])
def test_a_pickle_bomb_is_refused_and_does_not_go_off(hubert: Path, tmp_path: Path, save: Any) -> None:
    (hubert / SAFE).unlink()
    save({"encoder.layer_norm.weight": Bomb(tmp_path / "boom")}, hubert / BIN)
    refused(hubert, "nothing in it was run. Its .bin file is not a checkpoint of tensors alone")
    assert not (tmp_path / "boom").exists()


def test_a_bin_file_of_tensors_loads(hubert: Path) -> None:
    wanted = features(hubert)
    torch.save(load_file(hubert / SAFE), hubert / BIN)
    (hubert / SAFE).unlink()
    assert torch.equal(features(hubert), wanted)
    (hubert / BIN).write_bytes((hubert / BIN).read_bytes()[:9000])
    refused(hubert, "hubert cannot be read as HubertModel")


def test_python_files_beside_a_model_are_never_run(hubert: Path, tmp_path: Path) -> None:
    wanted = features(hubert)
    for name in ("configuration_own.py", "modeling_own.py"):
        (hubert / name).write_text(f"open({str(tmp_path / 'boom')!r}, 'w').close()\n")
    edit(hubert / "config.json", auto_map={"AutoConfig": "configuration_own.C", "AutoModel": "modeling_own.M"})
    assert torch.equal(features(hubert), wanted)
    edit(hubert / "config.json", model_type="own")
    refused(hubert, r"model_type 'own', which is no audio encoder known here\. Known: audio-.*never run")
    assert not (tmp_path / "boom").exists()


def test_mert_without_its_extras_is_hubert(hubert: Path) -> None:
    wanted = features(hubert)
    edit(hubert / "config.json", model_type="mert_model", architectures=["MERTModel"], attention_relax=-1.0)
    edit(hubert / "config.json", feature_extractor_cqt=False, deepnorm=False, sample_rate=24_000)
    edit(hubert / "preprocessor_config.json", sampling_rate=24_000)
    assert torch.equal(features(hubert), wanted)
    card = find_teacher(f"hf:{hubert}")
    assert card.rate_hz == 24_000
    assert card.output("frames").hop_s == pytest.approx(1 / 75)
    edit(hubert / "config.json", feature_extractor_cqt=True)
    refused(hubert, "this MERT has feature_extractor_cqt or deepnorm switched on")


def test_older_names_of_weights_and_the_prefix_of_a_head(hubert: Path) -> None:
    """As the published wav2vec 2.0 and MERT files have them."""
    wanted = features(hubert)
    rename(hubert, lambda key: re.sub(r"parametrizations\.weight\.original0", "weight_g", key))
    rename(hubert, lambda key: re.sub(r"parametrizations\.weight\.original1", "weight_v", key))
    assert torch.equal(features(hubert), wanted)
    rename(hubert, lambda key: f"hubert.{key}")
    assert torch.equal(features(hubert), wanted)


def test_weights_in_parts(hubert: Path) -> None:
    wanted, state = features(hubert), load_file(hubert / SAFE)
    (hubert / SAFE).unlink()
    place = {key: f"model-0000{1 + index % 2}-of-00002.safetensors" for index, key in enumerate(state)}
    for part in set(place.values()):
        inside = {key: tensor for key, tensor in state.items() if place[key] == part}
        save_file(inside, hubert / part, metadata={"format": "pt"})
    (hubert / f"{SAFE}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place}))
    assert torch.equal(features(hubert), wanted)
    files = [path.name for path in fetch_model(str(hubert))]
    assert files[-3:] == [f"{SAFE}.index.json", *sorted(set(place.values()))]
    (hubert / files[-1]).unlink()
    refused(hubert, r"lacks model-00002-of-00002\.safetensors, which model\.safetensors\.index\.json names")


@pytest.mark.parametrize("content", [{}, {"weight_map": {"a": "../../etc/passwd"}}, {"weight_map": {"a": 1}}])
def test_an_index_that_points_elsewhere_is_refused(hubert: Path, content: object) -> None:
    (hubert / SAFE).unlink()
    (hubert / f"{SAFE}.index.json").write_text(json.dumps(content))
    with pytest.raises(WeightsError, match="does not say in which parts"):
        build_model("", hubert)


def test_no_weights(hubert: Path) -> None:
    (hubert / SAFE).unlink()
    refused(hubert, r"hubert has no weights: neither model\.safetensors nor pytorch_model\.bin")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"num_attention_heads": 5}, "ValueError: embed_dim must be divisible"),
        ({"hidden_act": "nonsense"}, "KeyError: 'nonsense'"),
        ({"hidden_size": "many"}, "config.json or preprocessor_config.json makes no sense"),
        ({"conv_kernel": [10, 3]}, "config.json or preprocessor_config.json makes no sense"),
        ({"model_type": "bert"}, "model_type 'bert', which is no audio encoder known here"),
    ],
)
def test_settings_that_make_no_network(hubert: Path, settings: dict[str, Any], says: str) -> None:
    edit(hubert / "config.json", **settings)
    refused(hubert, says)


def test_files_that_contradict_each_other(models: Path, tmp_path: Path) -> None:
    whisper = Path(shutil.copytree(models / "whisper", tmp_path / "whisper"))
    edit(whisper / "preprocessor_config.json", feature_size=128)
    refused(whisper, "80 mel bands in config.json, but 128 in preprocessor_config.json")
    edit(whisper / "preprocessor_config.json", feature_size=80, chunk_length=30)
    refused(whisper, "200 mel frames of a window in config.json, but 3000")
    change(whisper, lambda state: {key: value for key, value in state.items() if "encoder.conv2" not in key})
    edit(whisper / "preprocessor_config.json", chunk_length=2)
    refused(whisper, r"WhisperModel .*missing conv2\.bias, conv2\.weight")


def test_a_decoder_is_not_needed(models: Path, tmp_path: Path) -> None:
    whisper = Path(shutil.copytree(models / "whisper", tmp_path / "whisper"))
    wanted = features(whisper)
    change(whisper, lambda state: {key: value for key, value in state.items() if ".encoder." in key})
    assert torch.equal(features(whisper), wanted)


def test_nothing_is_printed(hubert: Path, capfd: pytest.CaptureFixture[str]) -> None:
    change(hubert, lambda state: state | {"lm_head.weight": torch.zeros(3, 24)})
    features(hubert)
    assert capfd.readouterr() == ("", "")
