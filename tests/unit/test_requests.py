"""Names with settings: what they parse to, what their cards are called, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from pipeline import registry
from pipeline.cards import ExtractorCard, OptionCard, OutputCard, Scalar
from pipeline.errors import SettingError, UnknownNameError

FAMILY = ExtractorCard(
    name="models",
    version=1,
    kind="teacher",
    summary="",
    builder="",
    rate_hz=16_000,
    outputs=(OutputCard("frames", 4, 0.1, 0.1), OutputCard("clip", 4, 0, 0)),
    default_outputs=("frames",),
    options=(OptionCard("hop", 0.1, "seconds between frames"), OptionCard("size", 512, "channels", (512, 6144))),
    configure="test_requests:configure",
)
CARDS = {"models": FAMILY, "hub": replace(FAMILY, name="hub", subject="MODEL[@REVISION]")}


def configure(card: ExtractorCard, values: Mapping[str, Scalar]) -> ExtractorCard:
    return replace(card, parameters=dict(values))


def made(name: str) -> ExtractorCard:
    return registry.configured(name, "teacher", CARDS)


def test_a_name_alone_is_the_card_itself() -> None:
    assert made("models") is FAMILY


def test_settings_are_typed_and_the_others_have_their_defaults() -> None:
    card = made("models:hop=0.96")
    assert card.name == "models-hop0.96"
    assert card.parameters == {"hop": 0.96, "size": 512}


def test_the_order_of_settings_does_not_matter() -> None:
    assert made("models:size=6144:hop=1") == made("models:hop=1:size=6144")


def test_a_family_takes_a_model() -> None:
    card = made("hub:lab/Model-v1@abc:size=6144")
    assert card.name == "hub-lab-Model-v1-abc-size6144"
    assert card.parameters["subject"] == "lab/Model-v1@abc"


def test_a_path_is_not_in_the_name() -> None:
    assert made("hub:/home/someone/models/mert/:hop=1").name == "hub-mert-hop1"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("models:hop=fast", "hop=fast: not a number. seconds between frames"),
        ("models:size=7", "one of 512, 6144"),
        ("models:thing", "'thing' is no setting of the form option=value. models has hop"),
        ("hub", r"hub needs a model: hub:MODEL\[@REVISION\]"),
        ("hub:hop=1", "hub needs a model"),
    ],
)
def test_what_is_refused(name: str, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        made(name)


def test_unknown_options_name_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"no option of models named 'hops'. Did you mean 'hop'"):
        made("models:hops=1")


def test_outputs_stand_behind_the_last_slash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "extractors", lambda: CARDS)
    assert registry.split_request("models:hop=1/clip") == ("models:hop=1", ("clip",))
    assert registry.split_request("hub:lab/model") == ("hub:lab/model", ())
    assert registry.split_request("hub:lab/model/clip+frames") == ("hub:lab/model", ("clip", "frames"))
    assert registry.split_request("hub:lab/model:hop=1/clip") == ("hub:lab/model:hop=1", ("clip",))
