"""``backend=package``: the network of panns_inference, and nothing else of it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from narrow_panns import make_random_checkpoint

from pipeline.audio.extractor import build_extractor
from pipeline.errors import MissingExtraError, SettingError
from pipeline.registry import find_teacher

ROOT = Path(__file__).parents[2]
INSTALLED = ROOT / ".parity" / "torch"
"""Where the parity harness puts the package; it need not be in this environment."""

COMPARE = """
import sys
import torch
from pipeline.audio.extractor import build_extractor
from pipeline.registry import find_teacher

name, weights = sys.argv[1:]
outputs = tuple(output.name for output in find_teacher(name).outputs)
audio = 0.1 * torch.randn(2, 40_000, generator=torch.Generator().manual_seed(0))
n_valid = torch.tensor([40_000, 25_000])
audio *= torch.arange(40_000) < n_valid[:, None]
own, theirs = (
    build_extractor(find_teacher(name + more), outputs=outputs, mode="exact", weights=(weights,))(audio, n_valid)
    for more in ("", ":backend=package")
)
for output in outputs:
    torch.testing.assert_close(theirs[output].features, own[output].features, rtol=1e-5, atol=1e-5)
    assert theirs[output].n_frames.tolist() == own[output].n_frames.tolist()
    assert own[output].features.any()
left = sorted(name for name in sys.modules if name.startswith("panns_inference"))
assert not left, left
print("the same")
"""


def run(code: str, *arguments: str, folder: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """In a process whose ``wget`` leaves a mark and whose home is empty."""
    wget = folder / "bin" / "wget"
    wget.parent.mkdir()
    wget.write_text(f'#!/bin/sh\ntouch "{folder}/fetched"\n')
    wget.chmod(0o755)
    (folder / "home").mkdir()
    variables = {
        "PATH": f"{wget.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder / "home"),
        "PYTHONPATH": os.pathsep.join((str(path), str(ROOT))),
        "MPLCONFIGDIR": str(folder / "mpl"),
    }
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "network"), [("panns", "Cnn14"), ("panns-decision", "Cnn14_DecisionLevelMax")])
def test_the_package_s_network_gives_the_same_and_fetches_nothing(name: str, network: str, tmp_path: Path) -> None:
    if not (INSTALLED / "panns_inference").is_dir():
        pytest.skip("needs panns-inference 0.1.1 and torchlibrosa 0.1.0, as `make parity` installs them")
    make_random_checkpoint(tmp_path / "net.pth", network=network)
    done = run(COMPARE, name, str(tmp_path / "net.pth"), folder=tmp_path, path=INSTALLED)
    assert done.returncode == 0, done.stderr
    assert "the same" in done.stdout
    assert not (tmp_path / "fetched").exists()
    assert not any((tmp_path / "home").iterdir())


FAKE = {
    "panns_inference/__init__.py": "from .config import labels\n",
    "panns_inference/config.py": "import os\nos.system('wget labels')\nlabels, classes_num = ['a'], 1\n",
    "panns_inference/models.py": "from .config import classes_num, labels\nclass Cnn14: known = classes_num, labels\n",
    "torchlibrosa/__init__.py": "",
}
FENCED = """
import sys
from pipeline.extraction.teachers.panns.package import _network_class
print(_network_class("Cnn14").known, [name for name in sys.modules if name.startswith("panns_inference")])
"""


@pytest.mark.parametrize(
    ("code", "prints", "fetches"),
    [(FENCED, "(527, []) []\n", False), ("import panns_inference", "", True)],
    ids=["as here", "as it is"],
)
def test_importing_the_package_here_runs_no_wget(code: str, prints: str, fetches: bool, tmp_path: Path) -> None:
    """With a package that fetches on import as the real one does; the second case shows that it would."""
    for name, text in FAKE.items():
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name).write_text(text)
    done = run(code, folder=tmp_path, path=tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert done.stdout == prints
    assert (tmp_path / "fetched").exists() == fetches


@pytest.mark.skipif(importlib.util.find_spec("panns_inference") is not None, reason="it is installed")
def test_without_the_package_the_extra_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"^panns_inference is not installed.*east-music\[panns\]"):
        build_extractor(find_teacher("panns:backend=package"), weights=(tmp_path / "net.pth",))


def test_half_precision_is_not_the_package_s(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="panns_inference computes in float32"):
        build_extractor(find_teacher("panns:backend=package"), mode="half", weights=(tmp_path / "net.pth",))


def test_its_card_has_a_fingerprint_of_its_own() -> None:
    card = find_teacher("panns:backend=package:window=0.96")
    assert card.parameters["backend"] == "package"
    assert card.name == "panns-backendpackage-window0.96"
    assert "backend" not in find_teacher("panns").parameters
