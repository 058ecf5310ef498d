"""Store cards: what they say, that they lie in the store, are the same each time, and cannot be broken."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from croissants import differing_files, empty_sets, problems
from extracting import ROOT

from cli import east
from pipeline.errors import StoreError
from pipeline.stores import StoreMeta, StoreWriter, example_meta, open_store
from pipeline.stores.checking.repair import repair_store
from pipeline.stores.checking.verify import VerifyOptions, verify_store
from pipeline.stores.making.convert import convert_store
from pipeline.stores.making.merge import merge_stores
from pipeline.stores.making.pool import pool_store
from pipeline.stores.making.subset import subset_store
from pipeline.stores.sharing.card import escaped
from pipeline.stores.sharing.citing import entry
from pipeline.stores.sharing.showing import make_cards
from pipeline.stores.sums import SUMS, read

GOLDEN = ROOT / "tests" / "golden"
README, CROISSANT = "features/README.md", "features/croissant.json"
CARD = {
    "name": "net", "kind": "teacher", "version": 3, "parameters": {"hop": 256}, "licence_weights": "CC-BY-NC-4.0",
    "licence_code": "MIT", "citation": "A. Nobody, Nets & music, ISMIR 2020", "summary": "A net",
    "outputs": [{"name": "clip", "note": "mean 0:2, then max 2:4"}],
}  # fmt: skip
DATA = {"name": "songs", "version": "1", "licence": "CC-BY-4.0", "citation": "B. Nobody, Songs, 2019"}
RUN = {"version": "0.9.0", "commit": "c" * 40, "dirty": False, "time": "2026-01-02T03:04:05+00:00", "device": "cpu",
       "packages": {"torch": "2.13.0", "numpy": "2.4.1"}, "batch_clips": {"net": 8},
       "requests": {"net": "net:hop=0.5"}}  # fmt: skip


def meta(**changes: object) -> StoreMeta:
    base = {"extractor": "net", "output": "clip", "card": CARD, "dataset": DATA, "weights_sha256": ("a" * 64,),
            "chunk_clips": 2, "shard_clips": 4}  # fmt: skip
    return example_meta(**(base | changes))


def write(path: Path, ids: list[str], run: dict[str, object] | None = None, **changes: object) -> Path:
    """A finished store whose run says what a run of extraction says."""
    with StoreWriter(path, meta(**changes), np.array(ids, object), make_canaries=dict) as writer:
        for shard in writer.pending_shards():
            names = writer.arrays.clip_id[4 * shard : 4 * shard + 4].tolist()
            n, digests = len(names), np.zeros((len(names), 32), np.uint8)
            features = np.full((n, 3, 4), float(shard + 1), np.float32)
            writer.record(
                writer.target.write(
                    shard,
                    clip_ids=names,
                    features=features,
                    n_frames=np.full(n, 3),
                    state=np.ones(n, np.uint8),
                    failure=[""] * n,
                    file_digest=digests,
                    samples_digest=digests,
                )
            )
        writer.finish(RUN if run is None else run)
    return path


def text_of(path: Path, name: str = README) -> str:
    if path.suffix == ".zarr":
        return (path / name).read_text("utf-8")
    with h5py.File(path) as file:
        return file[name.rpartition("/")[2]].asstr()[()]


IDS = [f"clip {row}" for row in range(10)]

# --- in the store ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_a_finished_store_holds_its_cards(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"s.{suffix}", IDS)
    page = text_of(path)
    for part in (
        "# net/clip", "10 clips of songs", "Channels: mean 0:2, then max 2:4.", "a" * 64, "10 done, 0 failed",
        "The strictest holds for all of it: **CC-BY-NC-4.0** (weights of net). Name the author; no commercial use.",
        "audio of songs: [CC-BY-4.0](https://spdx.org/licenses/CC-BY-4.0.html)", "code of net: [MIT]",
        "@misc{net,\n  note = {A. Nobody, Nets \\& music, ISMIR 2020},\n  year = {2020},\n}", "@misc{songs-data,",
        f"# east-music 0.9.0, commit {'c' * 40}\n", 'open_zarr("STORE.zarr", consolidated=False)',
        "east extract --data songs --teacher net:hop=0.5/clip --student none \\\n"
        "  --mode exact --dtype float32 --batch 8\n",
        "2026-01-02T03:04:05\\+00:00: east-music 0.9.0, torch 2.13.0, numpy 2.4.1, cpu, commit",
    ):  # fmt: skip
        assert part in page, part
    assert verify_store(path, VerifyOptions()).findings == ()
    assert make_cards(str(path))["README.md"] == page


def test_croissant_of_a_zarr_store_is_valid_and_true(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr", IDS)
    document = json.loads(text_of(path, CROISSANT))
    assert problems(document) == []
    assert differing_files(document, path / "features") == []
    assert empty_sets(document, path / "features") == []
    assert document["license"][0] == "https://spdx.org/licenses/CC-BY-NC-4.0"
    assert {item["name"] for item in document["distribution"]} > {"features/c.2.0.0", "zarr.json", "clip_id/zarr.json"}
    outside = json.loads(make_cards(str(path))["croissant.json"])
    assert problems(outside) == []
    assert differing_files(outside, tmp_path) == []


def test_croissant_of_an_hdf5_store_is_valid_and_true(tmp_path: Path) -> None:
    path = write(tmp_path / "s.h5", IDS)
    inside, outside = json.loads(text_of(path, CROISSANT)), json.loads(make_cards(str(path))["croissant.json"])
    assert problems(inside) == problems(outside) == []
    assert differing_files(outside, tmp_path) == []
    with h5py.File(path) as file:
        assert all(field["source"]["extract"]["column"] in file for field in outside["recordSet"][0]["field"])


def test_the_checker_sees_what_is_wrong(tmp_path: Path) -> None:
    document = json.loads(text_of(write(tmp_path / "s.zarr", IDS), CROISSANT))
    del document["url"], document["distribution"][-1]["sha256"]
    document["recordSet"][0]["field"][0]["source"]["fileSet"]["@id"] = "elsewhere"
    document["license"].append("MIT")
    assert len(problems(document)) == 4


def test_cards_of_the_same_inputs_are_the_same(tmp_path: Path) -> None:
    one, two = (write(tmp_path / name / "s.zarr", IDS, uuid="u") for name in "ab")
    assert text_of(one) == text_of(two)
    assert text_of(one, CROISSANT) == text_of(two, CROISSANT)
    assert (one / SUMS).read_bytes() == (two / SUMS).read_bytes()
    assert "| clips | 10 done" in text_of(one)


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_cards_follow_a_store_that_grows(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"s.{suffix}", IDS)
    later = RUN | {"version": "1.0.0", "time": "2027-01-01T00:00:00+00:00"}
    write(path, [*IDS, "new"], later, dataset=DATA | {"licence": "CC-BY-SA-4.0"})
    page, document = text_of(path), json.loads(text_of(path, CROISSANT))
    assert "11 done, 0 failed" in page
    assert "# east-music 1.0.0, commit" in page
    assert page.count("east-music 0.9.0,") == 1
    assert "CC-BY-SA-4.0" in page
    assert (document["version"], document["datePublished"]) == ("2.0.0", later["time"])
    assert problems(document) == []
    assert verify_store(path, VerifyOptions()).findings == ()


def test_a_store_that_is_being_written_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr", IDS)
    with StoreWriter(path, meta(), np.array([*IDS, "new"], object), make_canaries=dict):
        assert "**Unfinished:**" in text_of(path)


def test_cards_are_no_part_of_the_content(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr", IDS)
    other = write(tmp_path / "o.zarr", IDS, card=CARD | {"citation": "another"})
    with open_store(path) as one, open_store(other) as two:
        assert one.meta.content_digest == two.meta.content_digest
    assert text_of(path) != text_of(other)


@pytest.mark.parametrize("name", [README, CROISSANT])
@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_a_damaged_card_is_found_and_written_anew(tmp_path: Path, name: str, harm: str) -> None:
    path = write(tmp_path / "s.zarr", IDS)
    before = {file: (path / file).read_bytes() for file in (README, CROISSANT, SUMS)}
    content = bytearray(before[name])
    content[len(content) // 2] ^= 1
    (path / name).unlink() if harm == "gone" else (path / name).write_bytes(content)
    assert [finding.file for finding in verify_store(path, VerifyOptions()).findings] == [name]
    repair_store(path, VerifyOptions())
    assert verify_store(path, VerifyOptions()).findings == ()
    assert {file: (path / file).read_bytes() for file in before} == before


def test_an_older_store_without_cards_is_sound_and_gets_them_when_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    shutil.copytree(GOLDEN / "store_v1.zarr", path)
    assert verify_store(path, VerifyOptions()).findings == ()
    with open_store(path) as reader:
        old, ids = reader.meta, reader.clip_id
    with StoreWriter(path, old, ids, make_canaries=dict) as writer:
        writer.finish({})
    assert {README, CROISSANT} <= read(path).keys()
    assert verify_store(path, VerifyOptions()).findings == ()


# --- made from others ------------------------------------------------------------------------------


def test_derived_stores_say_from_what_and_how(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.zarr", IDS), write(tmp_path / "b.h5", ["x", "y"], dataset=DATA | {"name": "more"})
    merge_stores(tmp_path / "m.zarr", [str(a), str(b)])
    page = text_of(tmp_path / "m.zarr")
    assert "12 clips of songs, more." in page
    assert "east store merge OUT.zarr net/clip.zarr net/clip.zarr\n" in page
    with open_store(a) as reader:
        assert f"net/clip, content {reader.meta.content_digest}" in page
    convert_store(str(a), tmp_path / "c.h5", dtype="float16")
    assert "east store convert net/clip.zarr OUT.zarr --dtype float16" in text_of(tmp_path / "c.h5")
    pool_store(str(a), tmp_path / "p.zarr", how="mean-std")
    assert "east store pool net/clip.zarr OUT.zarr --how mean-std" in text_of(tmp_path / "p.zarr")
    subset_store(str(a), tmp_path / "s.zarr", IDS[:3])
    assert "| clips | 3 done" in text_of(tmp_path / "s.zarr")
    for path in (tmp_path / "m.zarr", tmp_path / "p.zarr", tmp_path / "s.zarr"):
        assert problems(json.loads(text_of(path, CROISSANT))) == []
        assert verify_store(path, VerifyOptions()).findings == ()


# --- from anyone -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_an_old_store_reads_and_gets_a_card(suffix: str) -> None:
    path = GOLDEN / f"store_v1.{suffix}"
    with open_store(path) as reader:
        found = reader.read(np.array([6, 5]))
        assert reader.meta.content_digest == "eb3431bdad28c46922c3e83b46752205082dcd2f0d1058b7d0240153de77991b"
        assert [reader.clip_id[2], reader.failure[2]] == ["é/Lied 2.wav@6000", "format: not audio – 音"]
    assert found[0].tolist() == [[600, 600.5], [610, 610.5], [620, 620.5]]
    assert found[1].tolist() == [[500, 500.5], [0, 0], [0, 0]]
    cards = make_cards(str(path))
    assert cards == make_cards(str(path))
    assert "| clips | 6 done, 1 failed, 0 pending |" in cards["README.md"]
    assert json.loads(cards["croissant.json"])["@type"] == "sc:Dataset"


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_hostile_metadata_stay_text(tmp_path: Path, suffix: str) -> None:
    evil = "x](http://a.b)\n```\n# head <script>|;rm -rf `~`\x1b[31m" + "y" * 10_000
    card = CARD | {
        "citation": evil,
        "summary": evil,
        "version": {"a": evil},
        "outputs": [{"name": "clip", "note": evil}],
    }
    path = tmp_path / f"s.{suffix}"
    run = {"version": evil, "requests": {"net": evil}, "packages": {"torch": evil}, "time": [evil], "commit": 3}
    write(path, ["a"], run, card=card, dataset={"name": evil, "licence": evil, "citation": "@x{" + evil})
    page = text_of(path)
    lines = page.splitlines()
    assert "\x1b" not in page
    assert not [line for line in lines if line.startswith("# head")]
    assert [line for line in lines if line.startswith("```")] == ["```python", "```"] * 3 + [
        "```bibtex", "```", "```console", "```"
    ]  # fmt: skip
    outside = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    assert "<script" not in outside.replace("\\<script", "")
    assert len(page) < 20_000
    assert problems(json.loads(text_of(path, CROISSANT))) == ["dataset lacks datePublished"]


def test_licences_that_are_not_recorded_are_unknown_and_the_strictest(tmp_path: Path) -> None:
    page = text_of(write(tmp_path / "s.zarr", ["a"], dataset={"name": "mine"}))
    assert "- audio of mine: unknown" in page
    assert "**unknown** (audio of mine). Nothing is recorded, so no right may be assumed: ask the owner" in page
    assert "east data from --licence" in page


def test_texts_are_escaped() -> None:
    assert escaped("a|b\nc [d](e)") == "a\\|b c \\[d\\]\\(e\\)"


def test_bibtex_is_taken_as_it_is() -> None:
    assert entry("@article{x, title = {T}}", "net") == "@article{x, title = {T}}"
    assert entry("@article{x, title = {T}", "net").startswith("@misc{net,")


def test_the_command_prints_and_writes(tmp_path: Path) -> None:
    path = str(GOLDEN / "store_v1.zarr")
    done = CliRunner().invoke(east, ["store", "card", path, "--out", str(tmp_path / "o")])
    assert done.exit_code == 0, done.output
    assert sorted(file.name for file in (tmp_path / "o").iterdir()) == ["README.md", "croissant.json"]


def test_no_store_no_card(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no store at"):
        make_cards(str(tmp_path / "none.zarr"))
