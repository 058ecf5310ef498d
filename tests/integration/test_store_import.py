"""Embeddings made elsewhere come in whole, checked, with a card; and work like any store's."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))

from synthetic import CLIP_S, make_dataset

import cli
from pipeline import layout
from pipeline.errors import EastError, SettingError, StoreError
from pipeline.events import Event, TaskAdvanced
from pipeline.stores import State, StoreMeta, example_meta, open_store, write_store
from pipeline.stores.checking.verify import VerifyOptions, verify_store
from pipeline.stores.exchange.export import export_store
from pipeline.stores.exchange.importing import ImportOptions, import_store
from pipeline.stores.making.merge import merge_stores
from pipeline.stores.making.pool import pool_store
from pipeline.stores.making.subset import subset_store

N, FRAMES, CHANNELS = 20, 3, 4
IDS = [f"song {row:02d}" for row in range(N)]
FEATURES = np.random.default_rng(0).standard_normal((N, FRAMES, CHANNELS)).astype(np.float32)
FACTS = {
    "extractor": "theirs", "output": "frames", "version": 3, "rate_hz": 16000, "hop_s": 1.0, "window_s": 1.0,
    "clip_s": 3.0, "licence": "CC-BY-NC-4.0", "citation": "Them 2019",
}  # fmt: skip


def take(source: Path, out: Path, facts: dict[str, object] | None = None, **options: object) -> StoreMeta:
    return import_store(source, out, None, FACTS | (facts or {}), ImportOptions(**options))  # type: ignore[arg-type]


def features_of(path: Path) -> dict[str, np.ndarray]:
    """By clip id, valid frames only, of the clips that are done."""
    with open_store(path) as reader:
        found = reader.read(np.arange(len(reader)))
        rows = np.flatnonzero(reader.state == State.DONE).tolist()
        return {str(reader.clip_id[row]): found[row, : reader.n_frames[row]] for row in rows}


def same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> bool:
    return found.keys() == wanted.keys() and all(np.array_equal(found[key], wanted[key]) for key in wanted)


def folder_of_npy(base: Path) -> Path:
    for clip_id, values in zip(IDS, FEATURES, strict=True):
        place = base / "all" / f"{clip_id[-1]}" / f"{clip_id}.npy"
        place.parent.mkdir(parents=True, exist_ok=True)
        np.save(place, values)
    return base / "all"


def folder_of_npz(base: Path) -> Path:
    for clip_id, values in zip(IDS, FEATURES, strict=True):
        place = base / "all" / f"{clip_id[-1]}" / f"{clip_id}.npz"
        place.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(place, embedding=values.astype(np.float64), other=np.zeros(3))
    return base / "all"


def one_npz(base: Path) -> Path:
    np.savez_compressed(base / "all.npz", X=FEATURES, sample_key=np.array(IDS), Y_true=np.zeros((N, 20)))
    return base / "all.npz"


def one_hdf5(base: Path) -> Path:
    with h5py.File(base / "all.h5", "w") as file:
        file.create_dataset("features", data=FEATURES, chunks=(6, FRAMES, CHANNELS), compression="gzip", shuffle=True)
        file.create_dataset("keys", data=np.array(IDS, "S"), chunks=(5,), compression="gzip")
    return base / "all.h5"


@pytest.mark.parametrize("make", [folder_of_npy, folder_of_npz, one_npz, one_hdf5])
@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_every_kind_comes_in_equal_to_the_bit(tmp_path: Path, make: Callable[[Path], Path], suffix: str) -> None:
    meta = take(make(tmp_path), tmp_path / f"out.{suffix}")
    prefix = make in (folder_of_npy, folder_of_npz)
    wanted = {f"{key[-1]}/{key}" if prefix else key: values for key, values in zip(IDS, FEATURES, strict=True)}
    assert same(features_of(tmp_path / f"out.{suffix}"), wanted)
    assert (meta.frames, meta.channels, meta.dtype, meta.mode) == (FRAMES, CHANNELS, "float32", "imported")
    assert (meta.derived["verb"], len(meta.derived["sources"][0]["sha256"])) == ("import", 64)
    report = verify_store(tmp_path / f"out.{suffix}", VerifyOptions())
    assert not report.findings


@pytest.mark.parametrize("kind", ["npy", "npz", "per-clip"])
def test_what_was_exported_comes_back(tmp_path: Path, kind: str) -> None:
    valid = np.random.default_rng(1).integers(1, FRAMES + 1, N)
    valid[0] = FRAMES
    features = np.where((np.arange(FRAMES) < valid[:, None])[:, :, None], FEATURES, 0)
    meta = example_meta(dtype="float16")
    write_store(
        tmp_path / "s.zarr", meta=meta, clip_id=[f"é/{i}.wav@0" for i in IDS], features=features, n_frames=valid
    )
    out = tmp_path / ("out.npz" if kind == "npz" else "out")
    export_store(str(tmp_path / "s.zarr"), out, "npz" if kind == "npz" else "npy", per_clip=kind == "per-clip")
    assert take(out, tmp_path / "back.zarr").dtype == "float16"
    assert same(features_of(tmp_path / "back.zarr"), features_of(tmp_path / "s.zarr"))


def test_one_vector_per_clip(tmp_path: Path) -> None:
    once = {"hop_s": 0.0}
    (tmp_path / "f").mkdir()
    for clip_id, values in zip(IDS, FEATURES[:, 0], strict=True):
        np.save(tmp_path / "f" / f"{clip_id}.npy", values)
    np.save(tmp_path / "all.npy", FEATURES[:, 0])
    (tmp_path / "ids.txt").write_text("\n".join(IDS) + "\n")
    first = take(tmp_path / "f", tmp_path / "a.zarr", once)
    second = take(tmp_path / "all.npy", tmp_path / "b.zarr", once, ids=tmp_path / "ids.txt")
    assert (first.frames, first.content_digest, first.fingerprint) == (1, second.content_digest, second.fingerprint)


def test_quantised_numbers_are_undone_and_ids_are_made_to_fit(tmp_path: Path) -> None:
    """As OpenMIC-2018's archive: X [clips, 10, 128] of eight bits, sample_key."""
    quantised = np.random.default_rng(2).integers(0, 256, (5, 10, 128)).astype(np.uint8)
    keys = [f"00004{row}_3840" for row in range(5)]
    np.savez(tmp_path / "openmic-2018.npz", X=quantised, sample_key=np.array(keys), Y_mask=np.zeros((5, 20), bool))
    (tmp_path / "vggish.toml").write_text(
        'extractor = "vggish-openmic"\noutput = "frames"\nversion = 1\nrate_hz = 16000\nhop_s = 0.96\nwindow_s = 0.96\n'
        'clip_s = 10.0\nlicence = "Apache-2.0"\ncitation = "Hershey 2017"\nscale = 0.00390625\nshift = -0.5\n'
        '[parameters]\npca = true\n[dataset]\nname = "openmic-2018"\nlicence = "CC-BY-4.0"\n'
    )
    arguments = [str(tmp_path / "openmic-2018.npz"), str(tmp_path / "o.zarr"), "--card", str(tmp_path / "vggish.toml")]
    done = CliRunner().invoke(cli.east, ["store", "import", *arguments, "--clip-id", "audio/{name}.ogg@0"], obj={})
    assert done.exit_code == 0, done.output
    assert "vggish-openmic/frames: 10 frames x 128 channels, float32 per clip" in done.output
    found = features_of(tmp_path / "o.zarr")
    assert np.array_equal(found["audio/000042_3840.ogg@0"], (quantised[2].astype(np.float32) - 128) / 256)
    with open_store(tmp_path / "o.zarr") as reader:
        assert (reader.meta.card["parameters"]["pca"], reader.meta.dataset["licence"]) == (True, "CC-BY-4.0")
    done = CliRunner().invoke(cli.east, ["store", "card", str(tmp_path / "o.zarr")], obj={})
    assert "npz, SHA-256" in done.output


def test_clips_that_cannot_be_used_are_recorded_as_failed(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    broken = FEATURES[0].copy()
    broken[1, 2] = np.nan
    for name, values in {"good": FEATURES[1], "nan": broken, "huge": np.full((2, CHANNELS), 1e300),
                         "none": FEATURES[0, :0], "short": FEATURES[2, :1]}.items():  # fmt: skip
        np.save(tmp_path / "f" / f"{name}.npy", values)
    take(tmp_path / "f", tmp_path / "out.zarr")
    with open_store(tmp_path / "out.zarr") as reader:
        failed = {str(k): str(v) for k, v in zip(reader.clip_id, reader.failure, strict=True) if v}
    assert failed == {
        "nan": "values: 1 of 12 numbers are not finite", "huge": "values: 8 of 8 numbers are not finite",
        "none": "empty: no frames",
    }  # fmt: skip
    assert same(features_of(tmp_path / "out.zarr"), {"good": FEATURES[1], "short": FEATURES[2, :1]})


def test_an_imported_store_is_never_taken_for_an_extracted_one(tmp_path: Path) -> None:
    """Not even with the same words on its card."""
    meta = take(one_npz(tmp_path), tmp_path / "a.zarr")
    with pytest.raises(SettingError, match=r"there is no fact 'mode'.*Did you mean 'version'|there is no fact 'mode'"):
        take(tmp_path / "all.npz", tmp_path / "b.zarr", {"mode": "fast"})
    parameters = dict(meta.card["parameters"])
    extracted = example_meta(**{**vars(meta), "mode": "fast", "card": dict(meta.card) | {"parameters": parameters}})
    assert extracted.fingerprint != meta.fingerprint
    assert take(tmp_path / "all.npz", tmp_path / "b.zarr", {"scale": 2.0}).fingerprint != meta.fingerprint


def test_it_is_a_store_like_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verified, subset, merged, pushed, described; and a teacher, pooled too."""
    monkeypatch.setenv(layout.HOME_VARIABLE, str(tmp_path))
    table = make_dataset(tmp_path, teachers=())
    features = np.random.default_rng(3).standard_normal((len(table), 4, 6)).astype(np.float32)
    np.savez(
        tmp_path / "theirs.npz", features=features, ids=np.array([key.removesuffix("@0") for key in table.clip_id])
    )
    out = layout.store_path("tiny", "theirs", "frames")
    facts = {"clip_s": CLIP_S, "hop_s": 0.32, "window_s": 0.32}
    meta = take(tmp_path / "theirs.npz", out, facts, clip_id="{name}@0")
    for arguments in (["verify", str(out)], ["info", str(out)], ["push", str(out), str(tmp_path / "shared")]):
        done = CliRunner().invoke(cli.east, ["store", *arguments], obj={})
        assert done.exit_code == 0, done.output
    ids = table.clip_id.tolist()
    parts = [subset_store(str(out), tmp_path / f"{k}.zarr", ids[k::2]).name and f"{tmp_path}/{k}.zarr" for k in (0, 1)]
    assert merge_stores(tmp_path / "whole.zarr", parts).content_digest == meta.content_digest
    pooled = layout.store_path("tiny", "theirs", "frames-mean-std")
    pool_store(str(out), pooled, how="mean-std")
    arguments = [
        "--data",
        "tiny",
        "--store",
        f"{out},{pooled}",
        "--loss",
        "east-kd",
        "--steps",
        "4",
        "--batch",
        "8",
        "--device",
        "cpu",
    ]
    done = CliRunner().invoke(cli.east, ["train", *arguments], obj={})
    assert done.exit_code == 0, done.output
    (run,) = (json.loads(path.read_text()) for path in layout.runs_dir("tiny").glob("*/run.json"))
    assert "theirs/frames-mean-std" in json.dumps(run)
    assert "CC-BY-NC-4.0" in json.dumps(run)


def test_an_interrupted_import_goes_on(tmp_path: Path) -> None:
    source = one_npz(tmp_path)
    whole = take(source, tmp_path / "whole.zarr")

    def stop(event: Event) -> None:
        if isinstance(event, TaskAdvanced) and event.task.startswith("write"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_store(source, tmp_path / "out.zarr", None, FACTS, listener=stop)
    events: list[Event] = []
    assert (
        import_store(source, tmp_path / "out.zarr", None, FACTS, listener=events.append).content_digest
        == whole.content_digest
    )
    assert sum(e.amount for e in events if isinstance(e, TaskAdvanced) and e.task.startswith("write")) == N - 16
    with pytest.raises(StoreError, match=r"is there already"):
        take(source, tmp_path / "out.zarr")


class Runs:
    """A pickle that leaves a trace if it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.write_text, (Path("pickled"), "ran")


def objects(base: Path) -> Path:
    np.savez(base / "x.npz", X=FEATURES, sample_key=np.array([Runs()] * N, object))
    return base / "x.npz"


def pickled_clip(base: Path) -> Path:
    (base / "f").mkdir()
    np.save(base / "f" / "a.npy", np.array([Runs()], object))
    return base / "f"


def header(base: Path, text: str, content: bytes = b"\0" * 64) -> Path:
    raw = text.encode().ljust(117) + b"\n"
    (base / "f").mkdir()
    (base / "f" / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little") + raw + content)
    return base / "f"


def bomb(base: Path) -> Path:
    """Says little, holds a gigabyte of zeros."""
    with zipfile.ZipFile(base / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("clip_id.npy", "w") as handle:
            np.lib.format.write_array_header_1_0(
                handle, {"descr": "<U65536", "fortran_order": False, "shape": (1 << 20,)}
            )
        with archive.open("features.npy", "w") as handle:
            np.lib.format.write_array(handle, FEATURES)
    return base / "x.npz"


def twice(base: Path) -> Path:
    np.savez(base / "x.npz", X=FEATURES, sample_key=np.array(["a"] * N))
    return base / "x.npz"


def saved(base: Path, **arrays: np.ndarray) -> Path:
    np.savez(base / "x.npz", **arrays)
    return base / "x.npz"


def channels_differ(base: Path) -> Path:
    (base / "f").mkdir()
    np.save(base / "f/a.npy", FEATURES[0])
    np.save(base / "f/b.npy", FEATURES[0, :, :3])
    return base / "f"


def cut(base: Path) -> Path:
    source = saved(base, features=FEATURES, clip_id=np.array(IDS))
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) // 2])
    return source


def flipped(base: Path) -> Path:
    source = saved(base, features=FEATURES, clip_id=np.array(IDS))
    whole = bytearray(source.read_bytes())
    whole[whole.index(FEATURES.tobytes()) + 40] ^= 4
    source.write_bytes(whole)
    return source


def linked(base: Path) -> Path:
    with h5py.File(base / "other.h5", "w") as file:
        file["features"] = FEATURES
    with h5py.File(base / "x.h5", "w") as file:
        file["features"] = h5py.ExternalLink("other.h5", "features")
        file["ids"] = IDS
    return base / "x.h5"


def absurd_hdf5(base: Path) -> Path:
    with h5py.File(base / "x.h5", "w") as file:
        file.create_dataset("features", (1 << 36, FRAMES, CHANNELS), "f4", chunks=(8, FRAMES, CHANNELS))
        file["ids"] = IDS
    return base / "x.h5"


BAD: list[tuple[Callable[[Path], Path], str]] = [
    (objects, r"sample_key holds Python objects.*never loaded.*astype\(str\)"),
    (pickled_clip, r"a\.npy holds Python objects"),
    (lambda base: header(base, "{'descr': '<f4', 'fortran_order': False, 'shape': (9, 4)}"), r"ends 80 bytes early"),
    (lambda base: header(base, "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627775, 4)}"), r"4 GiB"),
    (lambda base: header(base, "{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 4)}"), r"shape|no array"),
    (lambda base: header(base, "__import__('os')"), r"a\.npy is no array of NumPy"),
    (lambda base: header(base, "{'descr': '<c8', 'fortran_order': False, 'shape': (2, 4)}"), r"is of type complex64"),
    (bomb, r"clip_id has 274,877,906,944 bytes, at most"),
    (twice, r"names 19 clips more than once: 'a', 'a', 'a', \.\.\."),
    (channels_differ, r"b\.npy has 3 channels, a\.npy has 4"),
    (cut, r"is no archive of NumPy"),
    (flipped, r"features.*Bad CRC-32"),
    (linked, r"has no dataset 'features' of its own"),
    (absurd_hdf5, r"features.*cannot hold|promises"),
    (lambda base: saved(base, a=FEATURES, b=FEATURES), r"has the arrays 'a', 'b': say which holds the features"),
    (lambda base: saved(base, X=FEATURES), r"no ids that are known by their name.*--ids FILE"),
    (lambda base: saved(base, X=FEATURES, ids=np.array(IDS[:4])), r"4 ids for 20 clips"),
    (lambda base: saved(base, X=FEATURES[:, :, :0], ids=np.array(IDS)), r"there is nothing to import"),
    (lambda base: saved(base, X=np.full((2, 3, 4), np.inf), ids=np.array(["a", "b"])), r"none of the 2 clips"),
    (lambda base: saved(base, X=FEATURES[None], ids=np.array(["a"])), r"expected \[frames, channels\] or \[clips"),
    (lambda base: saved(base, X=FEATURES, ids=np.array(IDS), n_frames=np.full(N, 4)), r"whole numbers from 0 to 3"),
    (lambda base: (base / "f").mkdir() or base / "f", r"holds no \.npy or \.npz file"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), BAD)
def test_what_is_wrong_with_a_source_is_said(
    tmp_path: Path, make: Callable[[Path], Path], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EastError, match=message):
        take(make(tmp_path), tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()
    assert not (tmp_path / "pickled").exists()


@pytest.mark.parametrize(
    ("facts", "message"),
    [({"extractor": None}, r"must also say extractor: in a card"), ({"rate_hz": 16.5}, r"rate_hz is 16\.5"),
     ({"citaton": "x"}, r"no fact 'citaton'. Did you mean 'citation'"), ({"extractor": "../x"}, r"not a name of"),
     ({"hop_s": 0.0}, r"up to 3 frames, but hop_s is 0"), ({"hop_s": 100.0}, r"cover 201 s, but clips have 3 s"),
     ({"licence": " "}, r"say 'unknown' where it is not known"), ({"clip_s": float("nan")}, r"clip_s is nan, not a"),
     ({"parameters": {"a": [1]}}, r"parameters must be a table of plain values")],
)  # fmt: skip
def test_what_is_wrong_with_a_card_is_said(tmp_path: Path, facts: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        take(one_npz(tmp_path), tmp_path / "out.zarr", facts)
    assert not (tmp_path / "out.zarr").exists()


def test_a_value_beyond_the_type_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    source = saved(tmp_path, X=FEATURES * 1e6, ids=np.array(IDS))
    with pytest.raises(StoreError, match=r"which float16 \(up to 65504\) cannot hold\. Store it with --dtype float32"):
        take(source, tmp_path / "out.zarr", dtype="float16")
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize("name", ["ids.txt", "ids.json"])
def test_a_mark_of_byte_order_is_no_part_of_the_first_id(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "all.npy", FEATURES)
    text = json.dumps(IDS) if name == "ids.json" else "\r\n".join(IDS)
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    take(tmp_path / "all.npy", tmp_path / "out.zarr", ids=tmp_path / name)
    assert same(features_of(tmp_path / "out.zarr"), dict(zip(IDS, FEATURES, strict=True)))
