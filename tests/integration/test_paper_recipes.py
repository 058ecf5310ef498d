"""The paper's recipes: every cell is there with the paper's numbers, and runs on small trees in the real layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from datasets_trees import MagnaTagATune, OpenMic

from pipeline import layout, registry
from pipeline.datasets.resolve import build_dataset
from pipeline.distillation.settings import ProbeSettings, TrainSettings
from pipeline.errors import StoreError
from pipeline.evaluation.runs import read_history, read_run
from pipeline.experiments.recipe import Cell, cells_of, expand, load_recipe
from pipeline.experiments.table import fill_table
from pipeline.manifest import ClipTable
from pipeline.stores import example_meta, write_store

TEACHERS = {
    "VGGish": ("vggish/embedding", 11, 128),
    "OpenL3": ("openl3:hop=0.96/embedding", 10, 512),
    "PaSST": ("passt/embedding", 10, 768),
    "PANNs": ("panns/clip", 1, 2048),
}
LAM = {
    "openmic": {"VGGish": 0.8, "OpenL3": 0.8, "PaSST": 0.9, "PANNs": 0.9},
    "magnatagatune": dict.fromkeys(TEACHERS, 0.6),
}
TABLES = ("openmic", "magnatagatune")


def cells(table: str) -> dict[str, Cell]:
    return {cell.row.title: cell for cell in cells_of([load_recipe(name) for name in expand([table])])}


@pytest.mark.parametrize("table", TABLES)
def test_every_cell_of_the_paper_has_its_recipe(table):
    found = cells(table)
    per_teacher = {f"{kind}, {teacher}" for teacher in TEACHERS for kind in
                   ("probe", "KD", "EAsT-Cos", "EAsT-Final", "EAsT-All", "EAsT-KD")}  # fmt: skip
    assert {"baseline", *per_teacher} < set(found)
    variants = set()
    for cell in found.values():
        if isinstance(cell.settings, TrainSettings) and cell.settings.teacher == ("passt/embedding",):
            loss = cell.settings.loss_settings()
            if not loss.kd:
                variants.add((loss.feature, "3" if loss.stage == "final" else loss.stage, loss.align))
    stages, aligns = ("1", "2", "3", "all"), ("repeat", "mean")
    assert variants == {(loss, stage, align) for loss in ("dcor", "cosine") for stage in stages for align in aligns}
    assert len(found) == 1 + 24 + 13


@pytest.mark.parametrize("table", TABLES)
def test_the_numbers_are_the_paper_s(table):
    large = table == "openmic"
    for title, cell in cells(table).items():
        settings, teacher = cell.settings, title.split(", ")[-1]
        assert settings.seed == 1223
        if title != "baseline":
            assert settings.teacher == (TEACHERS[teacher][0],)
        if isinstance(settings, ProbeSettings):
            continue
        loss = settings.loss_settings()
        assert settings.student == ("cp-resnet" if large else "mobile-fcn")
        assert (settings.lr, settings.weight_decay, settings.clip_norm, settings.batch) == (1e-4, 1e-4, 1.0, 16)
        assert (settings.schedule, settings.plateau_patience) == ("plateau", 8 if large else 5)
        assert (settings.steps, settings.patience) == ((80_000, 15) if large else (100_000, 12))
        assert (settings.mixup, settings.specaugment) == (large, large)
        assert (settings.mask_mels, settings.mask_frames) == ((48, 192) if large else (0, 0))
        assert loss.clips == "labelled"
        if title == "baseline":
            assert not loss.needs_teacher
            continue
        assert (loss.lam, loss.tau, loss.kd_share) == (LAM[table][teacher], 2.0, 0.3)
        assert loss.kd == ("KD" in title)


def stores(table: ClipTable, front_end: str, frames: int, *, leave_out: str = "") -> None:
    """A mel store and one of each teacher, with the shapes of real ones."""
    sizes = {front_end + "/logmel": (frames, registry.find_front_end(front_end).outputs[0].channels)}
    sizes |= {name: (n, dim) for name, n, dim in TEACHERS.values()}
    rng = np.random.default_rng(0)
    for name, (n, dim) in sizes.items():
        if name == leave_out:
            continue
        request, (output,) = registry.split_request(name)
        folder = registry.folder_name(request)
        kind = "mel" if output == "logmel" else "teacher"
        card = {"name": folder, "kind": kind, "version": 1, "parameters": {}, "licence_code": "MIT"}
        meta = example_meta(
            extractor=folder, output=output, card=card, frames=n, channels=dim, dtype="float16", clip_s=table.clip_s,
            hop_s=table.clip_s / n,
        )  # fmt: skip
        features = rng.normal(0, 1, (len(table), n, dim)).astype(np.float32)
        path = layout.store_path(table.name, folder, output)
        write_store(path, meta=meta, clip_id=table.clip_id.tolist(), features=features, n_frames=np.full(len(table), n))


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(layout.HOME_VARIABLE, str(tmp_path / "home"))
    return tmp_path


def openmic(home: Path, frames: int = 64, **leave: str) -> ClipTable:
    table, _ = build_dataset("openmic", folder=OpenMic(home / "openmic", n_train=40, n_test=16).write())
    stores(table, "mel-openmic", frames, **leave)
    return table


def magnatagatune(home: Path, frames: int = 64) -> ClipTable:
    table, _ = build_dataset("magnatagatune", folder=MagnaTagATune(home / "mtat").write())
    stores(table, "mel-mtat", frames)
    return table


def test_a_small_tree_of_openmic_is_enough_for_some_of_its_recipes(home):
    openmic(home)
    names = ["openmic/baseline", "openmic/east-kd-panns", "openmic/variant-cosine-all-mean"]
    assert fill_table([*names, "openmic/probe-openl3"], check=True).n_missing == 4


def test_what_cannot_run_is_told_before_anything_does(home):
    openmic(home, leave_out="panns/clip")
    with pytest.raises(
        StoreError, match=r"(?s)1 of 2 runs could not be made.*KD, PANNs, seed 1223:.*no store of panns"
    ):
        fill_table(["openmic/baseline", "openmic/kd-panns"], check=True, run=True)
    assert not layout.runs_dir("openmic").exists()


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("probe-panns", "probe_views=1", "no store of view 1 of panns/clip"),
        ("baseline", "validate_on=valid-other", "--validate-on valid-other: the clip table has no clips"),
        ("baseline", "labelled=4000", "--labelled 4000 asks for more clips than"),
    ],
)
def test_a_check_finds_what_a_run_would_stop_at(home, name, change, words):
    openmic(home)
    with pytest.raises(StoreError, match=words):
        fill_table([f"openmic/{name}"], changes=[change], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_every_recipe_runs_dry_on_a_small_tree(home, table):
    (openmic if table == "openmic" else magnatagatune)(home)
    data = "" if table == "openmic" else "magnatagatune"
    assert fill_table([table], data=data, check=True).n_missing == 38


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "name"),
    [("openmic", "east-kd-passt"), ("magnatagatune", "east-final-openl3"), ("openmic", "probe-vggish")],
)
def test_a_recipe_trains_on_inputs_of_the_real_size(home, table, name):
    from pipeline.distillation.probing import probe
    from pipeline.distillation.trainer import train

    if table == "openmic":
        openmic(home, frames=1000)
    else:
        magnatagatune(home, frames=1455)
    data = "" if table == "openmic" else "magnatagatune"
    settings = cells_of(
        [load_recipe(f"{table}/{name}", data=data, changes=["batch=4", "steps=2"] if "probe" not in name else [])]
    )[0].settings
    run = read_run(probe(settings) if isinstance(settings, ProbeSettings) else train(settings))
    assert run.complete
    if run.kind == "student":
        assert np.isfinite(read_history(run)["train_total"]).all()
