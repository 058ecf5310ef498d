from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from badfiles import (
    CLIP_S,
    CODECS,
    RATE_HZ,
    SHORT,
    Zoo,
    as_nobody,
    music,
    write,
    write_cut,
    write_good,
    write_long,
    write_patched,
    write_unreadable,
    write_zoo,
)

from pipeline.audio.decode import (
    AudioFile,
    decoders_quiet,
    file_digest,
    fit_clip,
    open_audio,
    probe,
    resample,
    samples_digest,
)
from pipeline.audio.mpeg import count_mpeg
from pipeline.audio.sources import SoundFileSource
from pipeline.audio.timing import n_samples
from pipeline.errors import (
    AudioEmptyError,
    AudioError,
    AudioFormatError,
    AudioMissingError,
    AudioRangeError,
    AudioTruncatedError,
    AudioUnreadableError,
)

_LAST_BIT = 2e-7
"""Where libmpg123 begins decides in which order it sums."""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return write_zoo(tmp_path_factory.mktemp("zoo"))


def test_every_file_of_the_zoo_ends_as_the_table_says(zoo: Zoo) -> None:
    for name, (path, kind) in zoo.items():
        got, words = _outcome(path)
        assert (name, got) == (name, kind)
        assert bool(words) == (name in SHORT or kind is not None), name
        assert str(path.parent) not in words


def _outcome(path: Path) -> tuple[str | None, str]:
    """The kind of failure or None, and what is said about the first clip of a file."""
    try:
        with open_audio(path) as file:
            return None, file.read(0.0, CLIP_S).short
    except AudioError as error:
        return error.kind, str(error)


@pytest.mark.parametrize("suffix", CODECS)
def test_a_segment_equals_that_part_of_the_whole(tmp_path: Path, suffix: str) -> None:
    path = write_good(tmp_path, suffix)
    with AudioFile(path) as file:
        whole = file.read(0.0, CLIP_S)
        for start_s in (3.0, 0.5, 1.5, 1.0, 4.25):
            part = file.read(start_s, 1.0).samples
            at = n_samples(start_s, whole.rate_hz)
            expected = whole.samples[at : at + whole.rate_hz]
            np.testing.assert_allclose(part, expected, atol=_LAST_BIT if suffix == "mp3" else 0, rtol=0)
    if suffix in ("wav", "flac"):
        assert np.array_equal(whole.samples, music(RATE_HZ)[:, 0])


@pytest.mark.parametrize("rate_hz", [16_000, 22_050, 44_100])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_blocks_of_an_mp3_join_and_seeks_land(tmp_path: Path, rate_hz: int, n_channels: int) -> None:
    """Plain soundfile is wrong by up to 0.28 here after every block: it seeks in between."""
    path = write(tmp_path / "a.mp3", music(rate_hz, CLIP_S, n_channels), rate_hz, "MP3", "MPEG_LAYER_III")
    whole = sf.read(path, dtype="float32", always_2d=True)[0].mean(axis=1)
    with AudioFile(path) as file:
        np.testing.assert_allclose(file.read(0.0, CLIP_S).samples, whole, atol=1e-6)
        for start_s in (4.0, 2.1, 3.3, 0.01):
            at = n_samples(start_s, rate_hz)
            part = file.read(start_s, 0.9).samples
            np.testing.assert_allclose(part, whole[at : at + len(part)], atol=1e-6)


def test_the_end_of_a_file_is_not_short(tmp_path: Path) -> None:
    for suffix in CODECS:
        with AudioFile(write_good(tmp_path, suffix)) as file:
            decoded = file.read(CLIP_S - 1.0, 10.0)
        assert decoded.short == ""
        assert len(decoded.samples) == pytest.approx(decoded.rate_hz, abs=3_000 if suffix == "mp3" else 0)


def test_channels_are_averaged(tmp_path: Path) -> None:
    samples = music(48_000, 1.0, n_channels=8)
    path = write(tmp_path / "a.wav", samples, 48_000, "WAV", "FLOAT")
    with AudioFile(path) as file:
        assert file.info.n_channels == 8
        np.testing.assert_allclose(file.read(0, 1).samples, samples.mean(axis=1), atol=1e-6)


def test_segments_beyond_the_end_and_none_at_all(tmp_path: Path) -> None:
    with AudioFile(write_good(tmp_path, "wav")) as file:
        with pytest.raises(AudioRangeError, match=r"starts at 9\.000 s, the file ends at 5\.000 s"):
            file.read(9.0, 1.0)
        with pytest.raises(AudioRangeError, match="a segment of 0 samples"):
            file.read(0.0, 0.0)
        with pytest.raises(AudioRangeError, match="from sample -"):
            file.read(-1.0, 1.0)


@pytest.mark.parametrize("suffix", CODECS)
def test_a_cut_beyond_the_clip_does_not_matter(tmp_path: Path, suffix: str) -> None:
    good = write_good(tmp_path, suffix)
    with AudioFile(write_cut(tmp_path / f"cut.{suffix}", good, 0.75)) as file:
        assert file.read(0.0, 1.0).short == ""
        with pytest.raises(AudioTruncatedError, match="download it again"):
            file.read(4.5, 0.5)


def test_damage_elsewhere_does_not_matter(tmp_path: Path) -> None:
    good = write_good(tmp_path, "flac")
    middle = good.stat().st_size // 2
    with AudioFile(write_patched(tmp_path / "hole.flac", good, middle, bytes(3_000))) as file:
        assert file.read(0.0, 1.0).short == ""
        with pytest.raises(AudioFormatError, match="damaged inside"):
            file.read(2.3, 1.0)
        assert file.read(4.0, 1.0).short == ""


def test_unreadable(tmp_path: Path) -> None:
    path = write_unreadable(tmp_path)
    with as_nobody(), pytest.raises(AudioUnreadableError, match="permission denied"):
        probe(path)


def test_not_files(tmp_path: Path) -> None:
    (tmp_path / "link.wav").symlink_to("nowhere.wav")
    with pytest.raises(AudioMissingError, match="a link that leads nowhere"):
        probe(tmp_path / "link.wav")
    with pytest.raises(AudioMissingError, match="a folder, not a file"):
        probe(tmp_path)
    with pytest.raises(AudioUnreadableError, match="could not be opened"):
        probe(tmp_path / ("x" * 300))
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioUnreadableError, match="a pipe or device"):
        probe(tmp_path / "pipe.wav")


def test_an_mp3_without_a_frame_count_is_whole(tmp_path: Path) -> None:
    """A variable-bitrate file whose first frame, the Xing header, is lost."""
    good = write_good(tmp_path, "mp3")
    content = good.read_bytes()
    bare = tmp_path / "bare.mp3"
    bare.write_bytes(
        content[content.index(b"\xff\xf3", 4) :] if content[1] == 0xF3 else content[content.index(b"\xff\xfb", 4) :]
    )
    assert probe(bare).duration_s == pytest.approx(CLIP_S, abs=0.1)
    with AudioFile(bare) as file:
        decoded = file.read(0.0, CLIP_S)
    assert decoded.short == ""
    assert len(decoded.samples) == round(CLIP_S * RATE_HZ)


def test_the_length_of_an_mp3_from_its_headers(tmp_path: Path) -> None:
    good = write_good(tmp_path, "mp3")
    with good.open("rb") as stream:
        stated = count_mpeg(stream, good.stat().st_size)
    assert stated == (round(CLIP_S * RATE_HZ), False)
    tagged = tmp_path / "tagged.mp3"
    tagged.write_bytes(b"ID3\x04\0\0\0\0\x02\x00" + bytes(256) + good.read_bytes() + b"TAG" + bytes(125))
    assert probe(tagged).duration_s == CLIP_S


def test_wav_headers_of_all_kinds(tmp_path: Path) -> None:
    samples = music(RATE_HZ)
    extensible = write(tmp_path / "x.wav", samples, RATE_HZ, "WAVEX", "PCM_16")
    rf64 = write(tmp_path / "r.wav", samples, RATE_HZ, "RF64", "PCM_16")
    aiff = write(tmp_path / "a.aiff", samples, RATE_HZ, "AIFF", "PCM_16")
    plain = write(tmp_path / "p.wav", samples, RATE_HZ, "WAV", "PCM_16").read_bytes()
    stream = tmp_path / "s.wav"
    stream.write_bytes(plain[:40] + struct.pack("<I", 0xFFFFFFFF) + plain[44:])
    odd = tmp_path / "o.wav"
    odd.write_bytes(plain[:36] + b"note" + struct.pack("<I", 3) + b"odd\0" + plain[36:])
    for path in (extensible, rf64, aiff, stream, odd):
        assert probe(path).duration_s == CLIP_S
        with AudioFile(path) as file:
            assert np.array_equal(file.read(0.0, CLIP_S).samples, samples[:, 0])
    for path in (extensible, rf64, aiff, odd):
        with AudioFile(write_cut(tmp_path / f"cut{path.suffix}", path, 0.75)) as file:
            assert re.search(r"of 110,250 promised samples \(3.\d+ of 5.00 s\)", file.read(0.0, CLIP_S).short)


def test_a_flac_that_does_not_know_its_length(tmp_path: Path) -> None:
    content = bytearray(write_good(tmp_path, "flac").read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path = tmp_path / "stream.flac"
    path.write_bytes(content)
    assert probe(path).duration_s == pytest.approx(CLIP_S, abs=0.2)
    with AudioFile(path) as file:
        assert np.array_equal(file.read(1.0, 1.0).samples, music(RATE_HZ)[RATE_HZ : 2 * RATE_HZ, 0])


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    path = write_good(tmp_path, "flac", "really flac.wav")
    assert probe(path).format == "FLAC PCM_16"


def test_memory_is_that_of_the_segment(tmp_path: Path) -> None:
    """An hour of eight channels at 192 kHz, 11 GB were they not sparse; and three hours of mono."""
    path = write_long(tmp_path / "long.wav", hours=1.0, rate_hz=192_000, n_channels=8)
    tracemalloc.start()
    with AudioFile(path) as file:
        assert file.info.duration_s == 3_600.0
        decoded = file.read(3_590.0, 10.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    path.unlink()
    assert len(decoded.samples) == 1_920_000
    assert decoded.samples[-1] == 0.25
    assert not decoded.samples[0]
    assert peak < 4 * decoded.samples.nbytes


class _Counting(SoundFileSource):
    seeks = 0

    def seek(self, frame: int) -> None:
        type(self).seeks += 1
        super().seek(frame)


def test_consecutive_segments_of_an_mp3_do_not_seek(tmp_path: Path) -> None:
    path = write_good(tmp_path, "mp3")
    with AudioFile(path) as file:
        file._source = _Counting(path)
        parts = [file.read(k, 1.0).samples for k in range(5)]
        assert _Counting.seeks == 0
        file.read(0.0, 1.0)
        assert _Counting.seeks == 1
        whole = file.read(0.0, CLIP_S).samples
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=_LAST_BIT)


@pytest.mark.parametrize("name", ["cut.ogg", "cut.opus"])
def test_a_cut_file_read_to_its_apparent_end_is_said_to_be_short(zoo: Zoo, name: str) -> None:
    with AudioFile(zoo[name][0]) as file:
        assert "cut off" in file.read(0.0, file.info.duration_s).short
        assert file.read(0.0, file.info.duration_s / 2).short == ""


_READ_QUIETLY = """
import sys
from pipeline.audio.decode import AudioFile
from pipeline.audio.quiet import decoders_quiet
from pipeline.errors import AudioFormatError

with decoders_quiet(), AudioFile(sys.argv[1]) as file:
    try:
        file.read(0.0, float(sys.argv[2]))
    except AudioFormatError:
        print("damaged")
print("spoken", file=sys.stderr)
"""


def test_decoders_print_nothing_and_the_rest_is_heard(zoo: Zoo) -> None:
    command = [sys.executable, "-c", _READ_QUIETLY, str(zoo["zeros inside.mp3"][0]), str(CLIP_S)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("damaged\n", "spoken\n")


def test_quiet_threads_overlap_and_leave_the_descriptor_as_it_was() -> None:
    before = os.fstat(2)
    gate = threading.Barrier(4)

    def work() -> None:
        with decoders_quiet():
            gate.wait(timeout=10)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.fstat(2).st_ino == before.st_ino


WORKER = """
import logging, os, sys
logging.basicConfig(stream=sys.stderr)
from pipeline.audio.decode import quiet_decoders
quiet_decoders()
quiet_decoders()
os.write(2, b"from a library\\n")
print("from print", file=sys.stderr)
logging.warning("from a log handler")
"""


def test_a_quiet_worker_still_speaks_for_itself() -> None:
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, check=True)
    assert "from a library" not in done.stderr
    assert "from print" in done.stderr
    assert "from a log handler" in done.stderr


def test_resample_and_fit() -> None:
    time_s = np.arange(44_100) / 44_100
    tone = np.sin(2 * np.pi * 440 * time_s).astype(np.float32)
    resampled = resample(tone, 44_100, 16_000)
    assert resampled.dtype == np.float32
    assert len(resampled) == 16_000
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(resampled[500:-500], expected[500:-500], atol=1e-3)
    assert resample(tone, 44_100, 44_100) is tone
    assert len(resample(tone[:0], 44_100, 16_000)) == 0
    padded, n_valid = fit_clip(tone, 50_000)
    assert (len(padded), n_valid) == (50_000, 44_100)
    assert not padded[44_100:].any()
    cut, n_valid = fit_clip(tone, 1_000)
    assert (len(cut), n_valid) == (1_000, 1_000)


def test_digests_see_the_samples_and_not_the_container(tmp_path: Path) -> None:
    wav, flac = write_good(tmp_path, "wav"), write_good(tmp_path, "flac")
    digests = []
    for path in (wav, flac):
        with AudioFile(path) as file:
            decoded = file.read(0.0, CLIP_S)
        digests.append(samples_digest(decoded.samples, decoded.rate_hz))
    assert digests[0] == digests[1]
    assert len(digests[0]) == 32
    assert samples_digest(decoded.samples, 16_000) != digests[0]
    assert file_digest(wav) != file_digest(flac)
    with pytest.raises(AudioEmptyError, match="0 bytes"):
        file_digest(_empty(tmp_path / "e.wav"))


def _empty(path: Path) -> Path:
    path.touch()
    return path


PLUGIN = """
from pathlib import Path
from pipeline.audio.sources import SoundFileSource
def opener(path):
    source = SoundFileSource(Path(path))
    source.format = "plugged"
    return source
DECODERS = {".strange": opener}
"""


def test_a_plugin_brings_a_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "strange_decoder.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("EAST_PLUGINS", "strange_decoder")
    path = write_good(tmp_path, "wav", "song.strange")
    assert probe(path).format == "plugged"


class _Ranges(SimpleHTTPRequestHandler):
    """A file server that answers range requests, unless its folder is named ``plain``."""

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        content, found = path.read_bytes(), re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        ranged = path.parent.name != "plain"
        part = content
        if found and ranged:
            part = content[int(found[1]) : int(found[2] or len(content)) + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {found[1]}-{int(found[1]) + len(part) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if ranged:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if body:
            self.wfile.write(part)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Ranges, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("folder", ["ranged", "plain"])
@pytest.mark.parametrize("suffix", ["flac", "mp3"])
def test_files_behind_an_address(tmp_path: Path, address: str, folder: str, suffix: str) -> None:
    (tmp_path / folder).mkdir()
    path = write_good(tmp_path / folder, suffix)
    with AudioFile(path) as file:
        expected = file.read(1.0, 2.0).samples
    for url in (f"{address}/{folder}/good.{suffix}", Path(f"{address}/{folder}/good.{suffix}")):
        with AudioFile(url) as file:
            assert np.array_equal(file.read(1.0, 2.0).samples, expected)
    assert file_digest(url) == file_digest(path)
    with pytest.raises(AudioMissingError, match="no such file"):
        probe(f"{address}/{folder}/other.wav")


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(AudioUnreadableError, match="could not be opened over http"):
        probe("http://127.0.0.1:9/a.wav")


def test_m4a_through_pyav(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    samples = music(44_100, 4.0, n_channels=2)
    samples[:] = samples.mean(axis=1, keepdims=True)
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100)
        stream.layout = "stereo"
        for at in range(0, len(samples), 1_024):
            block = np.ascontiguousarray(samples[at : at + 1_024].T)
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
            frame.rate, frame.pts = 44_100, at
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with AudioFile(path) as file:
        part = file.read(2.0, 1.0)
    assert part.short == ""
    assert np.corrcoef(part.samples, samples[88_200:132_300, 0])[0, 1] > 0.95


def test_soundfile_still_overcounts_or_not(tmp_path: Path) -> None:
    """What the tolerance for MP3 rests on: the decoder's count is near the truth and no more."""
    path = write_good(tmp_path, "mp3")
    assert abs(sf.info(path).frames - CLIP_S * RATE_HZ) <= 3_000


def test_failing_files_do_not_close_what_other_threads_have_open(zoo: Zoo, tmp_path: Path) -> None:
    text, good = tmp_path / "text.mp3", zoo["good.wav"][0]
    text.write_text("this is not audio")

    def rate_of(path: Path) -> int:
        try:
            return probe(path).rate_hz
        except AudioError:
            return 0

    with ThreadPoolExecutor(4) as pool, decoders_quiet():
        found = list(pool.map(rate_of, [text, good] * 300))
    assert found == [0, probe(good).rate_hz] * 300
