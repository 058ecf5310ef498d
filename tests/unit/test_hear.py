"""The rules of HEAR's common API, held by every registered teacher and by students."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from extracting import ROOT
from narrow import build_narrow
from torch import Tensor, nn

from pipeline import hear, registry
from pipeline.audio.extractor import Extractor, Frames, build_extractor
from pipeline.audio.samples import resample
from pipeline.cards import ExtractorCard, OutputCard
from pipeline.distillation.students.contract import Student, build_student, save_card, save_weights
from pipeline.errors import RunError, SettingError, UnknownNameError, WeightsError
from pipeline.hear.encoders import StudentEncoder, TeacherEncoder, choose_outputs, frame_grid

TEACHERS = sorted(name for name, card in registry.teachers().items())
STUDENTS = sorted(registry.students())
#: Of the students, one of each family in the default tests, all of them in the slow ones.
QUICK = {"cnn-small", "mobile-fcn", "tcnext-small"}
VALIDATED_HZ = (16_000, 22_050, 44_100, 48_000)


def sounds(model: hear.HearModel, seconds: float, n: int = 2) -> Tensor:
    """White noise within [-1, 1]."""
    length = max(1, round(seconds * model.sample_rate))
    return torch.rand(n, length, generator=torch.Generator().manual_seed(0)) * 2 - 1


def teacher(name: str, folder: Path) -> hear.HearModel:
    card = registry.teachers()[name]
    return hear.HearModel(TeacherEncoder(build_narrow(card, folder)))


def student(name: str, width: float = 0.25) -> Student:
    torch.manual_seed(0)
    (output,) = registry.find_front_end(registry.find_student(name).front_end).outputs
    return build_student(name, n_classes=3, n_mels=output.channels, width=width).eval().requires_grad_(False)


def student_model(name: str) -> hear.HearModel:
    front_end = build_extractor(registry.find_front_end(registry.find_student(name).front_end))
    return hear.HearModel(StudentEncoder(front_end, student(name)))


@pytest.fixture(
    scope="module",
    params=[
        *TEACHERS,
        *(pytest.param(f"student {name}", marks=[pytest.mark.slow] * (name not in QUICK)) for name in STUDENTS),
    ],
)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> hear.HearModel:
    if request.param.startswith("student "):
        return student_model(request.param.removeprefix("student "))
    return teacher(request.param, tmp_path_factory.mktemp("weights"))


def test_it_is_a_module_with_the_attributes(model: hear.HearModel) -> None:
    assert isinstance(model, nn.Module)
    assert model.sample_rate in VALIDATED_HZ
    assert type(model.scene_embedding_size) is int
    assert type(model.timestamp_embedding_size) is int
    assert not any(module.training for module in model.modules())
    assert isinstance(model.to("cpu"), hear.HearModel)


def test_moving_it_moves_all_of_it(model: hear.HearModel) -> None:
    """Tensors that are no buffers would stay behind."""
    for name, module in model.named_modules():
        left = [key for key, value in vars(module).items() if isinstance(value, Tensor)]
        assert not left, f"{name}: {left}"


def test_timestamps_are_regular_and_embeddings_fit(model: hear.HearModel) -> None:
    audio = sounds(model, 2.0, n=3)
    embeddings, timestamps = hear.get_timestamp_embeddings(audio, model)
    assert embeddings.dtype == torch.float32
    assert embeddings.shape == (3, timestamps.shape[1], model.timestamp_embedding_size)
    assert timestamps.shape[0] == 3
    assert torch.isfinite(embeddings).all()
    steps = torch.diff(timestamps)
    assert (steps > 0).all()
    assert ((steps - steps.mean()).abs() < 1e-3).all() or timestamps.shape[1] < 2
    assert (timestamps == timestamps[0]).all()


def test_timestamps_lie_within_the_sound(model: hear.HearModel) -> None:
    """Give or take what is padded at its ends: half a window and a hop."""
    series = model.encoder.timestamps
    slack_ms = 1000 * (series.hop_s + series.window_s / 2) + 1
    _, timestamps = hear.get_timestamp_embeddings(sounds(model, 12.0, n=1), model)
    assert timestamps.shape[1] >= 1
    assert timestamps[0, 0] >= -slack_ms
    assert timestamps[0, -1] <= 12_000 + slack_ms
    if series.hop_s < 5:
        assert timestamps[0, -1] >= 12_000 - slack_ms - 1000 * series.window_s


@pytest.mark.parametrize("seconds", [0.0, 0.05, 3.74])
def test_scenes_fit_for_short_and_long(model: hear.HearModel, seconds: float) -> None:
    audio = sounds(model, seconds)
    embeddings = hear.get_scene_embeddings(audio, model)
    assert embeddings.shape == (2, model.scene_embedding_size)
    assert embeddings.dtype == torch.float32
    assert torch.isfinite(embeddings).all()
    assert hear.get_timestamp_embeddings(audio, model)[0].shape[1] >= 1


def test_a_sound_does_not_depend_on_the_others(model: hear.HearModel) -> None:
    audio = sounds(model, 1.3, n=3)
    for embed in (hear.get_scene_embeddings, lambda *given: hear.get_timestamp_embeddings(*given)[0]):
        together = embed(audio, model)
        assert not torch.allclose(together[0], together[1])
        torch.testing.assert_close(embed(audio[1:2], model)[0], together[1], rtol=1e-4, atol=1e-4)


def test_further_networks_can_learn_from_embeddings(model: hear.HearModel) -> None:
    """Tensors of inference mode cannot be kept for a gradient."""
    embeddings = hear.get_scene_embeddings(sounds(model, 1.0), model)
    head = nn.Linear(model.scene_embedding_size, 2)
    head(embeddings).sum().backward()
    assert head.weight.grad is not None
    assert not embeddings.requires_grad


# The parts behind it


class Ramp(Extractor):
    """Each frame is the sum over its own second of samples; ``clip`` is the sum of all of them."""

    def __init__(self, rate_hz: int = 1000, hop_s: float = 0.25) -> None:
        super().__init__()
        outputs = (
            OutputCard("slow", 1, hop_s=1.0, window_s=1.0),
            OutputCard("frames", 1, hop_s=hop_s, window_s=1.0),
            OutputCard("clip", 1, hop_s=0.0, window_s=0.0),
        )
        self.card = ExtractorCard("ramp", 1, "teacher", "sums", "none:none", rate_hz, outputs, ("slow", "clip"))
        self.outputs, self.mode = ("frames", "clip"), "exact"
        self.longest = self.ran = 0

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        self.longest = max(self.longest, audio.numel())
        made = {}
        for name in self.outputs:
            self.ran += 1
            n_frames = torch.full_like(n_valid, self.count_frames(name, audio.shape[1]))
            if name == "clip":
                made[name] = Frames(audio.mean(1)[:, None, None], n_frames)
                continue
            hop = round(self.card.output(name).hop_s * self.card.rate_hz)
            made[name] = Frames(audio.unfold(1, self.card.rate_hz, hop).sum(2)[:, :, None], n_frames)
        return made

    def count_frames(self, output: str, n_samples: int) -> int:
        if output == "clip":
            return 1
        hop = round(self.card.output(output).hop_s * self.card.rate_hz)
        return max(1, 1 + (n_samples - self.card.rate_hz) // hop)


def test_long_audio_in_pieces_is_what_it_is_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ramp = Ramp(rate_hz=16_000)
    model = hear.HearModel(TeacherEncoder(ramp))
    audio = torch.rand(3, 16_000 * 47 + 77, generator=torch.Generator().manual_seed(0))
    whole, times = hear.get_timestamp_embeddings(audio, model)
    scene, ramp.longest = hear.get_scene_embeddings(audio, model), 0
    monkeypatch.setattr(hear, "SEGMENT_S", 10.0)
    pieces, same_times = hear.get_timestamp_embeddings(audio, model)
    torch.testing.assert_close(pieces, whole)
    assert torch.equal(times, same_times)
    assert times[0, :3].tolist() == [500.0, 750.0, 1000.0]
    torch.testing.assert_close(hear.get_scene_embeddings(audio, model), scene, rtol=1e-4, atol=1e-4)
    assert ramp.longest <= 16_000 * (10 + 2 * 4.25 + 1) * 3


def test_long_batches_go_through_a_few_at_a_time() -> None:
    ramp = Ramp()
    model = hear.HearModel(TeacherEncoder(ramp), 16_000)
    hear.get_timestamp_embeddings(torch.zeros(40, 16_000 * 20), model)
    assert ramp.longest == 4 * 20_000  # eight clips of ten seconds


def test_a_teacher_in_pieces_is_what_it_is_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = teacher("musicnn", tmp_path)
    audio = sounds(model, 33.3, n=1)
    whole = hear.get_timestamp_embeddings(audio, model)[0]
    monkeypatch.setattr(hear, "SEGMENT_S", 9.0)
    torch.testing.assert_close(hear.get_timestamp_embeddings(audio, model)[0], whole, rtol=1e-4, atol=1e-4)


def test_a_student_in_pieces_is_what_it_is_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model = student_model("cnn-small")
    audio = sounds(model, 33.3, n=1)
    whole = hear.get_timestamp_embeddings(audio, model)[0]
    monkeypatch.setattr(hear, "SEGMENT_S", 9.0)
    torch.testing.assert_close(hear.get_timestamp_embeddings(audio, model)[0], whole, rtol=1e-4, atol=1e-4)


def test_the_shortest_hop_gives_the_timestamps_and_the_clip_the_scene() -> None:
    card = Ramp().card
    assert [output.name for output in choose_outputs(card)] == ["frames", "clip"]
    assert [output.name for output in choose_outputs(card, "slow", "frames")] == ["slow", "frames"]
    musicnn = registry.find_teacher("musicnn")
    assert [output.name for output in choose_outputs(musicnn)] == ["frames", "pools"]
    with pytest.raises(SettingError, match="ramp: clip has no time axis"):
        choose_outputs(card, timestamps="clip")
    with pytest.raises(SettingError, match="ramp has no output 'tags', only slow, clip, frames"):
        choose_outputs(card, scene="tags")


def test_only_what_is_asked_for_runs() -> None:
    ramp = Ramp()
    model = hear.HearModel(TeacherEncoder(ramp), 16_000)
    hear.get_scene_embeddings(torch.zeros(1, 16_000), model)
    assert ramp.ran == 1


def test_the_mean_over_frames_is_the_scene_where_there_is_no_clip(tmp_path: Path) -> None:
    model = teacher("musicnn", tmp_path)
    audio = sounds(model, 6.0)
    pools = model.encoder.encode(audio, torch.full((2,), audio.shape[1]), "pools")
    wanted = pools.features[:, : int(pools.n_frames[0])].mean(1)
    torch.testing.assert_close(hear.get_scene_embeddings(audio, model), wanted)


def test_audio_of_another_rate_is_resampled_as_in_extraction() -> None:
    ramp = Ramp(rate_hz=32_000)
    model = hear.HearModel(TeacherEncoder(ramp))
    assert model.sample_rate == 48_000
    audio = torch.rand(2, 96_000, generator=torch.Generator().manual_seed(0))
    own = torch.from_numpy(np.stack([resample(row, 48_000, 32_000) for row in audio.numpy()]))
    made = hear.get_timestamp_embeddings(audio, model)[0]
    assert torch.equal(made, hear.get_timestamp_embeddings(own, hear.HearModel(TeacherEncoder(ramp), 32_000))[0])


@pytest.mark.parametrize("audio", [torch.zeros(16_000), torch.zeros(1, 0), torch.zeros(1, 9, dtype=torch.int16)])
def test_audio_of_another_shape_is_refused(audio: Tensor) -> None:
    model = hear.HearModel(TeacherEncoder(Ramp(16_000)))
    for embed in (hear.get_scene_embeddings, hear.get_timestamp_embeddings):
        with pytest.raises(SettingError, match=r"HEAR's audio is \[n_sounds, n_samples\] of floating-point numbers"):
            embed(audio, model)


def test_the_frames_of_a_student_lie_where_it_looks() -> None:
    """cnn-small strides by 4, 2 and 2, each kernel in the middle: frame k is centred on mel frame 16 k."""
    stride, offset, reach = frame_grid(student("cnn-small", width=1.0), 64)
    assert (stride, offset) == (16.0, 0.0)
    assert reach == 7 + 2 * 4 + 2 * 8 + 2 * 16
    model = student_model("cnn-small")
    _, timestamps = hear.get_timestamp_embeddings(sounds(model, 5.0), model)
    np.testing.assert_allclose(timestamps[0, :3], [0.0, 512.0, 1024.0])


def test_the_scene_of_a_student_is_what_its_last_layer_reads() -> None:
    model = student_model("cnn-small")
    assert isinstance(model.encoder, StudentEncoder)
    audio = sounds(model, 2.0)
    n_valid = torch.full((2,), audio.shape[1])
    mel = model.encoder.front_end(audio, n_valid)["logmel"]
    logits = model.encoder.student(mel.features, mel.n_frames).logits
    classify = model.encoder.student.get_submodule("classify")
    torch.testing.assert_close(classify(hear.get_scene_embeddings(audio, model)), logits)


# Names


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "demo" / "runs" / "tiny-s1"
    folder.mkdir(parents=True)
    made = student("cnn-small")
    save_weights(folder, made)
    about = {"classes": ["a", "b", "c"], "task": "multi-label", "front_end": "mel-small", "clip_s": 2.0}
    save_card(folder, made, about)
    return folder


def test_whoever_may_read_a_run_may_read_its_weights(run: Path) -> None:
    card, weights = ((run / name).stat().st_mode & 0o777 for name in ("student.json", "student.safetensors"))
    assert oct(weights) == oct(card)


def test_runs_are_found_by_folder_and_by_name(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAST_HOME", str(run.parents[2]))
    by_folder, by_name = hear.load_model(str(run)), hear.load_model("tiny-s1,rate=48000")
    assert (by_folder.sample_rate, by_name.sample_rate) == (16_000, 48_000)
    assert by_folder.timestamp_embedding_size == by_name.timestamp_embedding_size == 16


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("pans", SettingError, r"'pans' is neither a teacher \(.*panns.*\) nor a run"),
        ("panns,wieghts=x", SettingError, "no setting 'wieghts'; there are weights, mode"),
        ("panns,mode=quick", SettingError, "mode=quick: one of exact, fast, half"),
        ("panns,rate=8000", SettingError, "rate=8000: one of 16000, 22050, 32000"),
        ("musicnn,scene=clip", SettingError, "musicnn has no output 'clip', only pools"),
        ("panns,weights=/no/such/file.pth", WeightsError, "no such file"),
        ("musicnn:hop=1", UnknownNameError, "no option of musicnn named 'hop'"),
        ("/no/such/run", RunError, r"has no student\.json"),
    ],
)
def test_names_that_make_no_sense(name: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        hear.load_model(name)


def test_settings_of_teachers_are_refused_for_students(run: Path) -> None:
    with pytest.raises(SettingError, match="mode: for teachers only"):
        hear.load_model(f"{run},mode=exact")


def test_importing_it_loads_nothing_it_does_not_need() -> None:
    heavy = ("lightning", "torchmetrics", "dask", "distributed", "zarr", "sklearn", "matplotlib", "transformers")
    code = f"import sys, pipeline.hear; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
