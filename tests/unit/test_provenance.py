"""What is recorded, and what never is."""

from __future__ import annotations

import getpass
import json
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.provenance import config_hash, describe, git_state


def test_describe_is_json_with_versions_and_the_extras():
    facts = json.loads(json.dumps(describe(command="east train")))
    assert facts["command"] == "east train"
    assert facts["python"] == platform.python_version()
    assert set(facts["packages"]) >= {"torch", "numpy", "zarr", "soundfile", "libsndfile"}
    assert facts["time"].endswith("+00:00")


def test_describe_names_no_host_user_or_folder():
    text = json.dumps(describe())
    words = {word.strip('",{}[]:') for word in text.split()}
    assert platform.node() not in words
    assert getpass.getuser() not in words
    assert str(Path.cwd()) not in text


def test_describing_imports_nothing_heavy():
    code = (
        "import sys; from pipeline.provenance import describe; describe();"
        "heavy = {'torch', 'zarr', 'dask', 'lightning', 'librosa'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_outside_a_checkout_has_no_commit(tmp_path):
    assert git_state(tmp_path / "pipeline") == (None, None)


def test_a_checkout_tells_commit_and_changes(tmp_path):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    (tmp_path / "pyproject.toml").write_text("")
    git("add", "pyproject.toml")
    git("commit", "-q", "-m", "first")
    assert git_state(tmp_path / "pipeline") == (git("rev-parse", "HEAD"), False)
    (tmp_path / "pyproject.toml").write_text("# changed")
    assert git_state(tmp_path / "pipeline")[1] is True


def test_the_hash_ignores_key_order_and_tuple_or_list():
    assert config_hash({"a": 1, "b": (1, 2)}) == config_hash({"b": [1, 2], "a": 1})
    assert config_hash({"a": 1}) != config_hash({"a": 1.5})
    assert len(config_hash({})) == 64


def test_the_hash_takes_paths_and_dataclasses():
    @dataclass(frozen=True)
    class Settings:
        lam: float

    assert config_hash({"at": Path("a/b"), "s": Settings(0.5)}) == config_hash({"at": "a/b", "s": {"lam": 0.5}})


def test_what_has_no_json_form_is_refused():
    with pytest.raises(TypeError, match="no JSON form"):
        config_hash({"a": object()})
    with pytest.raises(ValueError, match="not JSON compliant"):
        config_hash({"a": float("nan")})
