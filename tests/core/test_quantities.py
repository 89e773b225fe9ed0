"""Large numbers as people read them."""

from __future__ import annotations

import pytest

from cl_lightning.core.quantities import bytes_text, count_text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (136_457, "0.14 million"),
        (10_733_584, "10.7 million"),
        (999_949_999, "999.9 million"),
        (4_123_000_000, "4.12 billion"),
    ],
)
def test_counts(number: int, text: str) -> None:
    assert count_text(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (3 * 2**30, "3.0 GiB")]
)
def test_bytes(number: int, text: str) -> None:
    assert bytes_text(number) == text
