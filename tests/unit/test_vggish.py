"""VGGish: official files, patches, what each variant gives, and files that are not to be used."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import extracting
import narrow_vggish
import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline import weights
from pipeline.audio.extractor import Extractor, Mode, build_extractor
from pipeline.cards import ExtractorCard
from pipeline.errors import WeightsError
from pipeline.extraction.teachers import htk_logmel
from pipeline.extraction.teachers.vggish import card as facts
from pipeline.extraction.teachers.vggish.arrays import PickledArray, PickledType
from pipeline.extraction.teachers.vggish.checkpoint import PCA_MEANS, PCA_VECTORS, read_pca
from pipeline.extraction.teachers.vggish.network import QuickVggish, Vggish, Whitening
from pipeline.registry import find_teacher
from pipeline.stores import open_store

NAMES = ("vggish", "vggish-relu", "vggish-raw")
NARROW = {name: narrow_vggish.narrow(find_teacher(name), 2) for name in NAMES}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, ...]:
    return narrow_vggish.make_random_checkpoint(tmp_path, width=2)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Extractor:
    return of_variant("vggish-raw", tmp_path_factory.mktemp("weights"))


def of_variant(name: str, folder: Path, mode: Mode = "exact") -> Extractor:
    return narrow_vggish.build(find_teacher(name), outputs=("embedding",), mode=mode, folder=folder)


def of_one_clip(extractor: Extractor, audio: Tensor) -> Tensor:
    features: Tensor = extractor(audio[None], torch.tensor([len(audio)]))["embedding"].features[0]
    return features


def noise(n_samples: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(n_samples, generator=torch.Generator().manual_seed(seed))


def load(files: tuple[Path, ...], card: ExtractorCard = NARROW["vggish"]) -> None:
    build_extractor(card, weights=files)


def test_official_names_and_sizes() -> None:
    with torch.device("meta"):
        state = {name: tuple(tensor.shape) for name, tensor in Vggish().state_dict(keep_vars=True).items()}
    assert state["features.0.weight"] == (64, 1, 3, 3)
    assert state["features.13.weight"] == (512, 512, 3, 3)
    assert state["embeddings.0.weight"] == (4096, 512 * 4 * 6)
    assert state["embeddings.4.bias"] == (128,)
    assert sum(math.prod(shape) for shape in state.values()) == find_teacher("vggish").n_parameters == 72_141_184
    assert {name.split(".")[1] for name in state if name.startswith("features")} == {"0", "3", "6", "8", "11", "13"}


def test_the_network_s_digest_begins_as_its_name_says() -> None:
    assert facts.NETWORK.filename == f"vggish-{facts.NETWORK.sha256[:8]}.pth"


def test_numbers_on_the_card_are_those_of_the_front_end() -> None:
    assert facts.PATCH_SAMPLES == htk_logmel.PATCH_SAMPLES
    assert facts.PATCH_HOP == htk_logmel.PATCH_FRAMES * htk_logmel.HOP
    assert facts.RATE_HZ == htk_logmel.RATE_HZ


@pytest.mark.parametrize(
    ("n_samples", "n_frames"),
    [(0, 0), (1, 1), (15_600, 1), (15_600 + 15_359, 1), (15_600 + 15_360, 2), (160_000, 10)],
)
def test_patches_are_those_that_the_clip_fills(raw: Extractor, n_samples: int, n_frames: int) -> None:
    assert raw.count_frames("embedding", n_samples) == n_frames
    made = raw(torch.zeros(1, n_samples), torch.tensor([n_samples]))["embedding"]
    assert made.n_frames.tolist() == [n_frames]
    assert made.features.shape == (1, max(1, n_frames), 4)


def test_a_short_clip_is_followed_by_silence(raw: Extractor) -> None:
    audio = noise(4000)
    wanted = of_one_clip(raw, torch.cat([audio, torch.zeros(11_600)]))
    torch.testing.assert_close(of_one_clip(raw, audio), wanted, rtol=0, atol=1e-6)


def test_each_frame_is_its_own_second(raw: Extractor) -> None:
    audio = noise(60_000)
    alone = of_one_clip(raw, audio[15_360 : 15_360 + 15_600])
    torch.testing.assert_close(of_one_clip(raw, audio)[1], alone[0], rtol=1e-5, atol=1e-5)


def test_variants_follow_from_one_another(tmp_path: Path) -> None:
    audio = torch.cat([noise(40_000), torch.sin(0.3 * torch.arange(40_000.0))])
    made = {name: of_one_clip(of_variant(name, tmp_path), audio).double().numpy() for name in NAMES}
    assert (made["vggish-raw"] < 0).any()
    np.testing.assert_array_equal(made["vggish-relu"], np.maximum(made["vggish-raw"], 0))
    pca = narrow_vggish.random_pca(width=2)
    whitened = (made["vggish-relu"] - pca["pca_means"]) @ pca["pca_eigen_vectors"].T
    steps = (np.clip(whitened, -2, 2) + 2) * 63.75
    assert np.abs(made["vggish"] * 256 + 128 - steps).max() <= 0.5 + 1e-3
    assert np.abs(made["vggish"] * 256 - np.round(made["vggish"] * 256)).max() == 0


def test_quantised_values_reach_from_0_to_255() -> None:
    """Halves go to the even neighbour: 63.75 times 2 is 127.5."""
    whitening = Whitening(torch.eye(4), torch.zeros(4), 2.0)
    made = whitening(torch.tensor([-9.0, 0.0, 1.0, 9.0])) * 256 + 128
    assert made.tolist() == [0, 128, 191, 255]


def test_quick_convolutions_give_what_plain_ones_give() -> None:
    """Wide enough that Winograd's algorithm is used from the second convolution on."""
    network = Vggish(16)
    network.load_state_dict(narrow_vggish.random_state(width=16))
    patches = torch.randn(3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = network(patches)
        torch.testing.assert_close(
            QuickVggish(network)(patches), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max())
        )


def test_half_is_near_the_exact_one(tmp_path: Path) -> None:
    audio = noise(50_000)
    exact, half = (of_one_clip(of_variant("vggish-raw", tmp_path, mode), audio) for mode in ("exact", "half"))
    assert 0 < (exact - half).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("name", NAMES)
def test_the_wrong_number_of_files_says_what_is_needed(name: str) -> None:
    n = len(find_teacher(name).weights)
    with pytest.raises(WeightsError, match=rf"{name} takes {n} files? of weights \(vggish-10086976\.pth.*, not 3"):
        build_extractor(find_teacher(name), weights=(Path("a"), Path("b"), Path("c")))


def test_missing_and_unexpected_names_are_listed(files: tuple[Path, ...]) -> None:
    state = torch.load(files[0], weights_only=True)
    state["classifier.weight"] = state.pop("embeddings.4.bias")
    torch.save(state, files[0])
    with pytest.raises(
        WeightsError, match=r"not VGGish of width 2: missing embeddings\.4\.bias; not expected classifier"
    ):
        load(files)


def test_files_in_the_wrong_order_are_told(files: tuple[Path, ...]) -> None:
    with pytest.raises(WeightsError, match=r"is not VGGish of width 2: it is the file of PCA parameters"):
        load(files[::-1])
    with pytest.raises(WeightsError, match=r"is not the PCA parameters of VGGish with 4 channels: it does not hold"):
        load((files[0], files[0]))


def test_another_width_is_told_by_the_shape(files: tuple[Path, ...]) -> None:
    with pytest.raises(WeightsError, match=r"features\.0\.weight has shape \[2, 1, 3, 3\], expected \[4, 1, 3, 3\]"):
        load(files, narrow_vggish.narrow(find_teacher("vggish"), 4))


def test_values_that_are_not_finite_are_told(files: tuple[Path, ...]) -> None:
    narrow_vggish.save_pca(narrow_vggish.random_pca(width=2) | {PCA_MEANS: np.full(4, np.nan)}, files[1])
    with pytest.raises(WeightsError, match=r"pca_means holds values that are not finite"):
        load(files)
    state = torch.load(files[0], weights_only=True)
    state["features.3.bias"][0] = torch.inf
    torch.save(state, files[0])
    with pytest.raises(WeightsError, match=r"features\.3\.bias holds values that are not finite"):
        load(files)


@pytest.mark.parametrize("size", [0, 100, 2000])
@pytest.mark.parametrize("which", [0, 1])
def test_half_a_file_is_told(files: tuple[Path, ...], which: int, size: int) -> None:
    whole = files[which].read_bytes()
    files[which].write_bytes(whole[: min(size, len(whole) // 2)])
    with pytest.raises(WeightsError, match=files[which].name):
        load(files)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("column", [False, True])
def test_pca_parameters_may_be_arrays_or_tensors(tmp_path: Path, dtype: type, column: bool) -> None:
    path = tmp_path / "pca.pth"
    arrays = {name: array.astype(dtype) for name, array in narrow_vggish.random_pca(width=2).items()}
    arrays[PCA_MEANS] = arrays[PCA_MEANS][:, None] if column else arrays[PCA_MEANS]
    narrow_vggish.save_pca(arrays, path)
    assert b"cnumpy.core.multiarray\n" in path.read_bytes()
    vectors, means = read_pca(path, 4)
    np.testing.assert_allclose(vectors, arrays[PCA_VECTORS], rtol=1e-6)
    np.testing.assert_allclose(means, arrays[PCA_MEANS].reshape(-1), rtol=1e-6)
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)
    assert torch.equal(read_pca(path, 4)[0], vectors)


def test_an_array_s_bytes_and_order_are_kept(tmp_path: Path) -> None:
    """Columns first, bytes short of the shape, and bytes in the other order."""
    path, vectors = tmp_path / "pca.pth", np.asfortranarray(np.arange(16.0).reshape(4, 4))
    narrow_vggish.save_pca({PCA_VECTORS: vectors, PCA_MEANS: np.zeros(4)}, path)
    assert read_pca(path, 4)[0].tolist() == vectors.tolist()
    narrow_vggish.save_pca({PCA_VECTORS: vectors.astype(">f8"), PCA_MEANS: np.zeros(4)}, path)
    with pytest.raises(WeightsError, match="pca_eigen_vectors is not an array of floating point"):
        read_pca(path, 4)
    array = PickledArray()
    array.__setstate__((1, (5,), _float64(), False, bytes(32)))
    with pytest.raises(ValueError, match=r"32 bytes for an array of shape \(5,\)"):
        array.to_tensor()


def _float64() -> PickledType:
    made = PickledType("f8", False, True)
    made.__setstate__((3, "<", None, None, None, -1, -1, 0))
    return made


@pytest.mark.parametrize("value", [np.arange(4), np.array(["a"] * 4), [0.0] * 4, np.array([None] * 4)])
def test_pca_parameters_of_another_kind_are_told(tmp_path: Path, value: object) -> None:
    path = tmp_path / "pca.pth"
    narrow_vggish.save_pca({PCA_VECTORS: np.eye(4), PCA_MEANS: value}, path)
    with pytest.raises(WeightsError, match=r"pca\.pth.*(not an array of floating point|an array of type|refused)"):
        read_pca(path, 4)


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))])
def test_a_pickle_bomb_is_refused_and_does_not_go_off(files: tuple[Path, ...], which: int, save: object) -> None:
    target = files[which].with_name("boom")
    save({PCA_MEANS: Bomb(target)}, files[which])  # type: ignore[operator]
    with pytest.raises(WeightsError, match="refused and nothing in it was run"):
        load(files)
    assert not target.exists()


def test_a_bomb_within_an_array_is_refused(tmp_path: Path) -> None:
    target, path = tmp_path / "boom", tmp_path / "pca.pth"
    narrow_vggish.save_pca({PCA_VECTORS: np.eye(4), PCA_MEANS: np.array([Bomb(target)] * 4)}, path)
    with pytest.raises(WeightsError, match=r"pca\.pth"):
        read_pca(path, 4)
    assert not target.exists()


def test_without_weights_it_says_what_to_get_and_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(
        WeightsError, match=r"(?s)vggish-10086976\.pth for vggish \(288,567,937 bytes, SHA-256 10086976"
    ) as told:
        weights.fetch_all(find_teacher("vggish").weights, offline=True)
    assert "github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth" in str(told.value)
    assert f"put it at {tmp_path / 'vggish' / 'vggish-10086976.pth'}" in str(told.value)


@pytest.mark.slow
def test_a_folder_of_audio_becomes_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full size, random weights in the official files, given as a folder; their digest is another, which is said."""
    monkeypatch.chdir(tmp_path)
    given = tmp_path / "weights"
    given.mkdir()
    narrow_vggish.make_random_checkpoint(given)
    paths = extracting.write_clips(tmp_path / "audio", 3)
    table = extracting.table_of(paths, tmp_path / "audio")
    report = extracting.run(table, "vggish", weights=given)
    assert report.n_failed == 0
    with open_store(extracting.layout.store_path(table.name, "vggish", "embedding", "zarr")) as store:
        features = store.read(np.arange(3))
    assert features.shape == (3, 1, 128)
    assert np.abs(features.astype(np.float64) * 256 % 1).max() == 0
    assert len(np.unique(features[:, 0], axis=0)) == 3
