"""Recipes of one run: what they take over, what wins, what is refused, and a run's own recipe."""

from __future__ import annotations

import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest

from pipeline.distillation.recipetext import recipe_text
from pipeline.distillation.settings import ProbeSettings, TrainSettings
from pipeline.errors import SettingError, UnknownNameError
from pipeline.experiments.checking import all_settings, parse_changes
from pipeline.experiments.recipe import expand, load_recipe, plan, probe_settings, recipes, student_settings

BASE = 'format = 1\ndata = "demo"\nseeds = [7, 8]\nsteps = 40\nteacher = ["musicnn"]\n[common]\nlabelled = 20\n'


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "base.toml").write_text(BASE)
    return tmp_path


def put(folder: Path, text: str, name: str = "one") -> str:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return str(path)


def test_a_recipe_takes_over_another_and_its_own_values_win(folder):
    (folder / "deep").mkdir()
    put(folder, 'extends = "base.toml"\ntitle = "KD"\nloss = "kd"\nlam = 0.3\nsteps = 50')
    found = load_recipe(put(folder, 'extends = "../one.toml"\nlam = 0.4', "deep/two"))
    assert (found.title, found.data, found.seeds) == ("KD", "demo", (7, 8))
    assert found.rows[0].settings == {"steps": 50, "teacher": ("musicnn",), "labelled": 20, "loss": "kd", "lam": 0.4}
    assert [cell.settings.seed for cell in plan(found)] == [7, 8]
    assert plan(found)[0].settings.group == "KD"


def test_a_probe_takes_over_only_what_it_knows(folder):
    found = load_recipe(put(folder, 'extends = "base.toml"\nkind = "probe"\ntitle = "probe"'))
    assert plan(found)[0].settings == ProbeSettings("demo", ("musicnn",), labelled=20, seed=7, group="probe")


def test_a_folder_is_its_recipes_without_those_to_be_extended(folder):
    put(folder, 'extends = "base.toml"', "b")
    put(folder, 'extends = "base.toml"', "baseline")
    put(folder, "format = 1", "base-long")
    assert [Path(name).name for name in expand([str(folder)])] == ["b.toml", "baseline.toml"]
    assert expand([str(folder), str(folder / "b.toml")]) == expand([str(folder)])
    (folder / "empty").mkdir()
    with pytest.raises(SettingError, match="There is no recipe"):
        expand([str(folder / "empty")])
    with pytest.raises(UnknownNameError, match="Did you mean 'demo'"):
        expand(["dmeo"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = "bsae.toml"', "there is no file .*bsae.toml"),
        ('extends = "one.toml"', "leads back to itself"),
        ("extends = 3", "must be the path of one recipe, found 3"),
        ('extends = "base.toml"\nstpes = 3', "no recipe key named 'stpes'. Did you mean 'steps'"),
        ('extends = "base.toml"\nkind = "probe"\nsteps = 3', "no recipe key named 'steps'"),
        ('extends = "base.toml"\nkind = "teacher"', "no kind of row named 'teacher'"),
        ('extends = "base.toml"\nschedule = "plato"', "no schedule named 'plato'. Did you mean 'plateau'"),
        (
            'extends = "base.toml"\nteacher = "musicnn"',
            r"teacher must be a list, such as \[\"musicnn\"\]; found 'musicnn'",
        ),
        ('extends = "base.toml"\nvalidate_on = [1]', r"such as \[\"valid\", \"valid-other\"\]; found \[1\]"),
        ('extends = "base.toml"\nlr = 100.0', "lr is 100.0, but must lie between"),
        ('extends = "base.toml"\nseeds = [1]\nseed = 1', "says both seed and seeds"),
        ('extends = "base.toml"\nname = 3', "name must be text in quotes, found 3"),
        ("row = 3\nformat = 1", r"Rows are written as \[\[row\]\]"),
        ("lr = 0.1", "has no format; .* there must be: format = 1"),
        ("format = 1", "one.toml' names no seeds. Write seeds"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(folder, text, message):
    with pytest.raises(SettingError, match=message) as caught:
        plan(load_recipe(put(folder, text)))
    told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    assert "one.toml'" in told or "recipe 'one'" in told


def test_options_win_over_a_recipe_where_the_user_gave_them(folder):
    name = put(folder, 'extends = "base.toml"\ntitle = "KD"\nlam = 0.4')
    values = {"data": "chorales", "lam": 0.1, "lr": 0.5, "seed": 3, "group": "", "steps": 2000}
    found = student_settings(name, values, {"lr", "seed"})
    expected = TrainSettings(
        "demo", teacher=("musicnn",), labelled=20, lam=0.4, lr=0.5, seed=3, steps=40, group="KD"
    )  # fmt: skip
    assert found == expected
    assert student_settings(name, values, {"data"}).data == "chorales"
    assert student_settings(name, values, set()).seed == 7
    assert student_settings("", values, set()).lr == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [("steps = -4", "steps is -4, but must lie"), ('student = "cnn-smal"', "Did you mean 'cnn-small'"),
     ("title = 3", "title must be text in quotes, found 3"), ('labelled = "few"', "a whole number, found 'few'")],
)  # fmt: skip
def test_one_run_of_a_recipe_that_is_refused_names_the_file_once(folder, text, message):
    name = put(folder, f'extends = "base.toml"\n{text}')
    with pytest.raises(SettingError, match=message) as caught:
        student_settings(name, {}, set())
    assert "\n".join([str(caught.value), *caught.value.__notes__]).count("one.toml") == 1


def test_one_row_of_several_is_chosen_by_its_title():
    assert student_settings("demo", {"group": "labels only"}, {"group"}).loss == "labels"
    assert probe_settings("demo", {"group": "teacher probe"}, {"group"}).labelled == 200
    with pytest.raises(SettingError, match="has 4 rows: choose one with --group, of 'teacher probe', 'labels only'"):
        student_settings("demo", {}, set())
    with pytest.raises(SettingError, match="is of a probe"):
        student_settings("demo", {"group": "teacher probe"}, {"group"})


def test_the_recipe_of_a_run_gives_its_settings_back(tmp_path):
    plain = TrainSettings("demo", teacher=("musicnn",), lam=0.25, mixup=True, labelled=3, seed=4, lr=1e-5)
    odd = replace(plain, labelled=None, lam=None, group='a "b" \\ c', name="mine", store=("s3://b/x.zarr",), teacher=())
    for settings in (plain, odd):
        name = put(tmp_path, recipe_text(settings))
        assert student_settings(name, {}, set()) == settings
    probe = ProbeSettings("demo", ("musicnn",), labelled=3, seed=2)
    assert probe_settings(put(tmp_path, recipe_text(probe)), {}, set()) == probe


def test_the_recipe_of_a_run_holds_every_setting_and_no_absolute_path():
    settings = TrainSettings("/home/me/clips.parquet", loss="kd", store=("/home/me/x.zarr",), mel="/home/me/m.zarr")
    text = recipe_text(settings, dataset="demo")
    told = {line.removeprefix("# ").split(" = ")[0].split(":")[0] for line in text.splitlines()}
    assert told == {field.name for field in fields(TrainSettings)} | {"format", "kind"}
    assert "/home" not in text
    assert tomllib.loads(text)["data"] == "demo"
    assert "# lam: the loss's own, 0.9" in text
    assert recipe_text(replace(settings, store=()), teachers=["musicnn/pools"]).count('["musicnn/pools"]') == 1


def test_a_run_of_another_run_s_recipe(tmp_path):
    put(tmp_path, recipe_text(TrainSettings("demo", teacher=("musicnn",), seed=4, name="mine", group="old")))
    found = plan(load_recipe(put(tmp_path, 'extends = "one.toml"\ntitle = "new"\nlr = 0.1', "two")))[0].settings
    assert (found.seed, found.name, found.group, found.lr) == (4, "", "new", 0.1)


def test_changes_know_the_types_of_all_settings():
    assert parse_changes(["stage=1", "teacher=a,b", "lam=0.5", "seeds=1,2", "mixup=true"]) == {
        "stage": "1", "teacher": ["a", "b"], "lam": 0.5, "seeds": [1, 2], "mixup": True}  # fmt: skip
    assert {"steps", "lam", "probe", "memory_gb"} <= all_settings()


@pytest.mark.parametrize("name", recipes())
def test_our_recipes_can_be_run(name):
    assert plan(load_recipe(name))


def test_a_recipe_that_is_not_there_is_told_briefly(tmp_path):
    with pytest.raises(SettingError, match=r"There is no recipe at '.*gone\.toml': no such file") as error:
        expand([str(tmp_path / "gone.toml")])
    assert "Known" not in str(error.value)
    with pytest.raises(UnknownNameError, match="Did you mean 'openmic'") as error:
        expand(["openmc"])
    assert "openmic/baseline" not in str(error.value)
    with pytest.raises(UnknownNameError, match="Did you mean 'openmic/baseline'") as error:
        expand(["openmic/baselin"])
    assert "magnatagatune" not in str(error.value)
