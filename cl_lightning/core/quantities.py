"""Large numbers as text for people: counts and bytes."""

from __future__ import annotations

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def count_text(number: float) -> str:
    """Format a number of parameters or operations.

    >>> count_text(900), count_text(136_457), count_text(10_734_000), count_text(4.1e9)
    ('900', '0.14 million', '10.7 million', '4.10 billion')
    """
    if number < 10_000:
        return f"{number:,.0f}"
    if number < 1e6:
        return f"{number / 1e6:.2f} million"
    return f"{number / 1e6:.1f} million" if number < 1e9 else f"{number / 1e9:,.2f} billion"


def bytes_text(number: float) -> str:
    """Format a number of bytes.

    >>> bytes_text(12), bytes_text(3 * 2**30)
    ('12 bytes', '3.0 GiB')
    """
    value, units = float(number), list(_UNITS)
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} bytes" if units[0] == "bytes" else f"{value:.1f} {units[0]}"
