"""Groups of settings: declared once below, held to their bounds there and in recipes."""

import dataclasses
from typing import Literal

import pytest
from pydantic import ValidationError

from tutelage.errors import ConfigError
from tutelage.recipe.base import Strict, same_as, section_of
from tutelage.settings import check_settings, count, setting


def even(value):
    if value % 2:
        raise ValueError(f"must be even, not {value}")


@dataclasses.dataclass(frozen=True)
class Cooking:
    minutes: int = count(10, "How long.", le=1000)
    eggs: int = setting(2, "How many.", ge=0, check=even)
    salt: float | None = setting(None, "Share of salt.", gt=0, lt=1)
    pan: Literal["iron", "steel"] | None = setting("iron", "Which pan.")

    def __post_init__(self):
        check_settings(self)


class Kitchen(section_of(Cooking, Strict, without={"salt"})):
    """Cooking in a recipe."""

    pinch: float | None = same_as(Cooking, "salt", "The same in other words.", default=0.5)


BAD = [
    ({"minutes": 0}, "must be 1 or greater"),
    ({"minutes": 2000}, "must be 1,000 or less"),
    ({"eggs": 3}, "must be even, not 3"),
    ({"pan": "stel"}, "Did you mean 'steel'"),
]


@pytest.mark.parametrize(("given", "words"), BAD)
def test_a_value_out_of_bounds_is_refused_in_python_and_in_a_recipe(given, words):
    with pytest.raises(ConfigError, match=words):
        Cooking(**given)
    with pytest.raises(ValidationError):
        Kitchen(**given)


def test_the_message_says_what_the_setting_means():
    with pytest.raises(ConfigError) as caught:
        Cooking(salt=1.0)
    assert str(caught.value) == "`salt` is 1.0, and must be less than 1. It means: Share of salt."


def test_a_section_has_the_keys_defaults_and_meanings_of_its_group():
    assert list(Kitchen.model_fields) == ["minutes", "eggs", "pan", "pinch"]
    assert Kitchen().model_dump() == {"minutes": 10, "eggs": 2, "pan": "iron", "pinch": 0.5}
    assert Kitchen.model_fields["eggs"].description == "How many."
    assert Kitchen.model_fields["pinch"].description == "The same in other words."
    with pytest.raises(ValidationError, match="less than 1"):
        Kitchen(pinch=1)


def test_a_section_gives_its_group():
    kitchen = Kitchen(minutes=3, pan=None)
    assert kitchen.values_of(Cooking) == Cooking(minutes=3, pan=None)
    assert kitchen.values_of(Cooking, eggs=4, salt=0.1) == Cooking(3, 4, 0.1, None)
