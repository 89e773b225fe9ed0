"""Names of classes: one however its accents are written, and nearly the same ones."""

from __future__ import annotations

import pytest

from cl_lightning.data.sources.unicode_names import nfc, plain, similar, twins


def test_an_accent_is_one_sign_with_its_letter() -> None:
    assert nfc("Ku\u0308he") == "K\u00fche" == nfc("K\u00fche")
    assert nfc("cow") == "cow"


@pytest.mark.parametrize("name", ["Red fox", "red_fox", "RED-FOX", "redfox", "red  _-fox", "\uff32ed fox"])
def test_case_and_what_stands_between_words_make_no_difference(name: str) -> None:
    assert plain(name) == "redfox"


def test_letters_and_digits_do() -> None:
    assert len({plain(name) for name in ("fox", "foxes", "fox 2", "fox.2", "Füchse", "Fuchse")}) == 6
    assert plain("Straße") == plain("STRASSE")


def test_the_first_that_is_nearly_known_and_what_it_is_nearly() -> None:
    assert similar(["cow", "red-fox", "Dog"], ["dog", "Red Fox"]) == ("red-fox", "Red Fox")
    assert similar(["cow"], ["dog"]) is None
    assert similar([], ["dog"]) is None
    assert similar(["dog"], ["dog"]) == ("dog", "dog"), "the very same counts too"


def test_two_of_one_list_that_are_nearly_the_same() -> None:
    assert twins(["cow", "red fox", "dog", "Red_Fox", "DOG"]) == ("red fox", "Red_Fox")
    assert twins(["cow", "dog"]) is None
