"""Digests of contents: BLAKE2b of 16 bytes, as rows of a table and as text."""

from __future__ import annotations

import hashlib

import pytest
import torch

from cl_lightning.data.sources.content_digest import DIGEST_SIZE, as_hex, as_table, digest, from_hex


def test_it_is_blake2b_of_all_parts_after_one_another() -> None:
    expected = hashlib.blake2b(b"abc", digest_size=16).digest()
    assert digest(b"abc") == digest(b"a", memoryview(b"bc")) == expected
    assert len(expected) == DIGEST_SIZE


def test_tables_and_text_are_the_same_digests() -> None:
    digests = [digest(bytes([number])) for number in range(3)]
    table = as_table(digests)
    assert (table.shape, table.dtype) == ((3, 16), torch.uint8)
    assert as_hex(table) == [each.hex() for each in digests]
    assert torch.equal(from_hex(as_hex(table)), table)
    assert as_hex(table[torch.tensor([2, 0])]) == [digests[2].hex(), digests[0].hex()]
    assert as_hex(table.T.contiguous().T) == as_hex(table), "whatever lies how in memory"


def test_of_nothing_there_is_an_empty_table() -> None:
    assert as_table([]).shape == from_hex([]).shape == (0, 16)
    assert as_hex(as_table([])) == []


@pytest.mark.parametrize("text", ["00", "0" * 31, "zz" * 16, "00" * 17])
def test_other_text_is_no_digest(text: str) -> None:
    with pytest.raises(ValueError):
        from_hex([text])
