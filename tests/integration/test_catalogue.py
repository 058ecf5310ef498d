"""The catalogue of a shared place: written by pushes, listed, chosen from, and not believed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from servers import Web, web_server

import cli
from pipeline import layout
from pipeline.errors import StoreError
from pipeline.events import Event, Note
from pipeline.extraction.reuse import choose_paths
from pipeline.stores import StoreMeta, example_meta, open_store, write_store
from pipeline.stores.remote import CACHE_VARIABLE
from pipeline.stores.sharing import catalogue, places
from pipeline.stores.sharing.catalogue import Entry, add_entry, read_catalogue
from pipeline.stores.sharing.ls import list_place
from pipeline.stores.sharing.places import find_place
from pipeline.stores.sharing.pull import pull_store
from pipeline.stores.sharing.push import push_store

N = 8


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(places, "PAUSE_S", 0.01)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with web_server(tmp_path / "web") as web:
        yield web


def make(path: Path, *, seed: int = 0, output: str = "features", dataset: str = "songs") -> StoreMeta:
    meta = example_meta(output=output, dataset={"name": dataset, "licence": "CC-BY-4.0"})
    features = np.random.default_rng(seed).standard_normal((N, 3, 4)).astype(np.float32)
    return write_store(
        path, meta=meta, clip_id=[f"c{row}" for row in range(N)], features=features, n_frames=np.full(N, 3)
    )


def test_pushes_are_listed(tmp_path: Path) -> None:
    place = tmp_path / "shared"
    one = make(tmp_path / "one.zarr")
    make(tmp_path / "two.h5", output="other", dataset="")
    push_store(tmp_path / "one.zarr", str(place))
    push_store(tmp_path / "two.h5", f"{place}/deep")
    push_store(tmp_path / "two.h5", str(place))
    push_store(tmp_path / "one.zarr", str(place))
    done = CliRunner().invoke(cli.east, ["store", "ls", str(place), "--json"], obj={})
    about = json.loads(done.stdout)
    assert about["catalogue"] is True
    assert [store["path"] for store in about["stores"]] == ["example/features.zarr", "example/other.h5"]
    first = about["stores"][0]
    n_bytes = sum(path.stat().st_size for path in (place / "example/features.zarr").rglob("*") if path.is_file())
    assert first == {
        "path": "example/features.zarr",
        "uuid": one.uuid,
        "content_digest": one.content_digest,
        "extractor": "example",
        "output": "features",
        "mode": "exact",
        "fingerprint": one.fingerprint,
        "dataset": "songs",
        "clips": N,
        "bytes": n_bytes,
        "licence": "CC-BY-4.0 (audio of songs)",
    }
    done = CliRunner().invoke(cli.east, ["store", "ls", str(place)], obj={})
    assert "example/features.zarr" in done.stdout
    assert one.content_digest[:12] in done.stdout


def test_what_others_wrote_stays(tmp_path: Path) -> None:
    place = tmp_path / "shared"
    make(tmp_path / "one.zarr")
    make(tmp_path / "two.zarr", output="other")
    push_store(tmp_path / "one.zarr", str(place))
    document = json.loads((place / "catalogue.json").read_text())
    document["stores"][0]["of a later release"] = [1]
    (place / "catalogue.json").write_text(json.dumps(document))
    push_store(tmp_path / "two.zarr", str(place))
    document = json.loads((place / "catalogue.json").read_text())
    assert document["stores"][0]["of a later release"] == [1]
    assert len(document["stores"]) == 2


def entry(path: str, **changes: Any) -> Entry:
    values = {"uuid": "u", "content_digest": "0" * 64, "extractor": "e", "output": "o", "mode": "exact"}
    values |= {"fingerprint": "1" * 64, "dataset": "d", "licence": "MIT"}
    return Entry(**({"path": path, "clips": 1, "bytes": 2} | values | changes))


def test_many_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    place = find_place(str(tmp_path / "shared"))
    entries = [entry(f"{number}.zarr") for number in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda one: add_entry(find_place(str(tmp_path / "shared")), one), entries))
    assert sorted(read_catalogue(place) or (), key=lambda one: one.path) == sorted(entries, key=lambda one: one.path)


def test_a_full_catalogue_is_refused_and_stays_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, file = find_place(str(tmp_path)), tmp_path / "catalogue.json"
    long = dict.fromkeys(("uuid", "extractor", "output", "mode", "dataset", "licence"), "x" * 1000)
    rows = [vars(entry(f"{number:05d}.zarr", **long)) for number in range(2660)]
    file.write_text(json.dumps({"format": "east-catalogue", "version": 1, "stores": rows}))
    assert len(read_catalogue(place) or ()) == len(rows)
    before = file.read_bytes()
    with pytest.raises(StoreError, match=r"catalogue\.json is full: .* bytes, and at most 16,777,216 can be read"):
        add_entry(place, entry("more.zarr", **long))
    assert file.read_bytes() == before
    monkeypatch.setattr(catalogue, "MAX_STORES", 2)
    file.unlink()
    for name in ("one.zarr", "two.zarr", "two.zarr"):
        add_entry(place, entry(name))
    with pytest.raises(StoreError, match=r"is full: with this store it would have 3 stores, and at most 2 can be read"):
        add_entry(place, entry("three.zarr"))
    assert [one.path for one in read_catalogue(place) or ()] == ["one.zarr", "two.zarr"]


def test_a_store_that_is_named_itself_enters_a_catalogue_above(tmp_path: Path) -> None:
    place = tmp_path / "shared"
    make(tmp_path / "one.zarr")
    notes: list[Event] = []
    push_store(tmp_path / "one.zarr", f"{place}/a/b/mine.zarr", listener=notes.append)
    assert [note for note in notes if isinstance(note, Note) and "No catalogue above" in note.text]
    assert not list(place.rglob("catalogue.json"))
    push_store(tmp_path / "one.zarr", str(place))
    push_store(tmp_path / "one.zarr", f"{place}/a/b/mine.zarr")
    assert [one.path for one in read_catalogue(find_place(str(place))) or ()] == [
        "a/b/mine.zarr",
        "example/features.zarr",
    ]


def bad(**changes: Any) -> str:
    row = vars(entry("a.zarr")) | changes
    return json.dumps({"format": "east-catalogue", "version": 1, "stores": [row]})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (bad(path="../../etc/a.zarr"), r"has the path '\.\./\.\./etc/a\.zarr', which is no store below the place"),
        (bad(path="/etc/a.zarr"), r"which is no store below the place"),
        (bad(path="a/./b.zarr"), r"which is no store below the place"),
        (bad(path="a\\b.zarr"), r"which is no store below the place"),
        (bad(path="a/passwd"), r"which is no store below the place"),
        (bad(path="a\x1b[31m.zarr"), r"path is 'a\\x1b\[31m\.zarr', not a plain text"),
        (bad(licence="MIT\u202egnp"), r"licence is .*not a plain text"),
        (bad(mode="x" * 5000), r"mode is 'x{199}\.\.\., not a plain text"),
        (bad(clips=-1), r"clips is -1, not a sensible number"),
        (bad(clips=True), r"clips is True, expected int"),
        (bad(bytes=10**400), r"bytes is a number of 1,329 bits, not a sensible number"),
        (bad(uuid=None), r"uuid is None, expected str"),
        (bad(fingerprint="no"), r"fingerprint is 'no', not a digest"),
        ('{"format": "other"}', r"is no catalogue of stores \(no format 'east-catalogue'\)"),
        ('{"format": "east-catalogue", "version": 2, "stores": []}', r"has version 2; .*upgrade east-music"),
        ('{"format": "east-catalogue", "version": "1", "stores": []}', r"has version '1', which is none"),
        ('{"format": "east-catalogue", "version": 1, "stores": {}}', r"stores is not a list of at most"),
        ('{"format": "east-catalogue", "version": 1, "stores": [1]}', r"store 0 is no table"),
        ("[" * 100_000, r"nested too deep|not valid JSON"),
        ('{"format": "east-catalogue", "version": NaN}', r"NaN is no number"),
        (" " * ((1 << 24) + 2), r"holds more than the 16,777,216 bytes"),
    ],
)
def test_forged_catalogues_are_refused(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "catalogue.json").write_text(text)
    with pytest.raises(StoreError, match=match):
        list_place(str(tmp_path))


def test_a_foreign_catalogue_is_found_before_anything_is_sent(tmp_path: Path) -> None:
    make(tmp_path / "one.zarr")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/catalogue.json").write_text('{"songs": []}')
    with pytest.raises(StoreError, match=r"is no catalogue of stores"):
        push_store(tmp_path / "one.zarr", str(tmp_path / "shared"))
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["catalogue.json"]


def test_without_a_catalogue_stores_are_looked_for(tmp_path: Path, web: Web) -> None:
    make(web.folder / "a.zarr")
    make(web.folder / "example/other.zarr", output="other")
    make(web.folder / "one/two/deep.zarr")
    make(web.folder / "one/two/three/deeper.zarr")
    (web.folder / "one/bad.zarr").mkdir()
    make(web.folder / "single.h5")
    for address in (str(web.folder), web.url):
        notes: list[Event] = []
        found = {path: (one, why) for path, one, why in list_place(address, notes.append).stores}
        assert sorted(found) == ["a.zarr", "example/other.zarr", "one/bad.zarr", "one/two/deep.zarr", "single.h5"]
        assert any(
            isinstance(note, Note) and "has no catalogue.json; 5 stores were found" in note.text for note in notes
        )
        assert found["example/other.zarr"][0].output == "other"
        assert found["a.zarr"][0].clips == N
        assert found["one/bad.zarr"][0] is None
    done = CliRunner().invoke(cli.east, ["store", "ls", web.url], obj={})
    assert done.exit_code == 0
    assert "HDF5 is read once it is here" in done.stdout
    (web.folder / "index.html").write_text("nothing to see")
    with pytest.raises(StoreError, match=r"has no catalogue\.json, and there is nothing there, or it cannot be listed"):
        list_place(web.url)
    with pytest.raises(StoreError, match=r"has no catalogue\.json, and there is nothing there"):
        list_place(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_pulled_to_where_extract_looks(tmp_path: Path, web: Web, suffix: str) -> None:
    meta = make(tmp_path / f"one{suffix}")
    push_store(tmp_path / f"one{suffix}", str(web.folder))
    done = CliRunner().invoke(cli.east, ["store", "pull", web.url], obj={})
    path = layout.store_path("songs", "example", "features", "zarr" if suffix == ".zarr" else "hdf5")
    assert f"store: {path}" in done.stdout
    with open_store(path) as reader:
        assert reader.meta.content_digest == meta.content_digest
    left = [path.name for path in (tmp_path / "home").rglob("*") if path.name.startswith(".")]
    assert left == []
    with pytest.raises(StoreError, match=r"features\.(zarr|h5) is there already"):
        pull_store(web.url)


def test_of_several_stores_one_is_to_be_named(tmp_path: Path, web: Web) -> None:
    make(tmp_path / "one.zarr")
    make(tmp_path / "two.zarr", output="other", dataset="../up")
    push_store(tmp_path / "one.zarr", str(web.folder))
    push_store(tmp_path / "two.zarr", str(web.folder))
    with pytest.raises(
        StoreError, match=r"(?s)has 2 stores\. Name one .*example/features\.zarr:.*example/other\.zarr: "
    ):
        pull_store(web.url)
    with pytest.raises(StoreError, match=r"has the dataset '\.\./up', which is no name for a folder: name DEST"):
        pull_store(f"{web.url}/example/other.zarr")
    with pytest.raises(StoreError, match=r"has no catalogue\.json\. Look for stores there: east store ls"):
        pull_store(f"{web.url}/example")
    assert not (tmp_path / "home").exists()


def test_stores_to_take_features_from_are_chosen_by_the_catalogue(tmp_path: Path, web: Web) -> None:
    one = make(tmp_path / "one.zarr")
    push_store(tmp_path / "one.zarr", str(web.folder))
    two = make(tmp_path / "two.h5", output="other")
    push_store(tmp_path / "two.h5", str(web.folder))
    make(web.folder / "beside.zarr")
    for address in (web.url, f"{web.url}/", f"{web.url}/catalogue.json"):
        assert choose_paths(address, {one.fingerprint, "other"}) == [f"{web.url}/example/features.zarr"]
    web.asked.clear()
    assert choose_paths(web.url, {one.fingerprint, two.fingerprint}) == [f"{web.url}/example/features.zarr"]
    assert web.asked == ["catalogue.json"]
    listed, beside = f"{web.folder}/example/features.zarr", f"{web.folder}/beside.zarr"
    assert choose_paths(str(web.folder), {one.fingerprint}) == [listed, beside]
    with pytest.raises(
        StoreError, match=r"(?s)no store there was made with the settings of this run\. There are:.*other\.h5"
    ):
        choose_paths(web.url, {"another"})
    with pytest.raises(StoreError, match=r"There is no catalogue at .*none/catalogue\.json"):
        choose_paths(f"{web.url}/none/catalogue.json", {one.fingerprint})
