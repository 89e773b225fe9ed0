"""Messages between processes, as bytes in tensors: JSON and safetensors, never a pickle, which could hold code.

Anybody who reaches the port of a group that torchrun or srun started can join it. So a message is checked as one from
a stranger: it is a value of plain types, or refused.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import UInt8
from safetensors import SafetensorError
from torch import Tensor

from cl_lightning.core import serialization

_LENGTH = 8
"""Bytes in front of a message that give the length of its JSON, the least significant first."""


def encode(value: Any) -> UInt8[Tensor, " n"]:
    """Return a message of dicts, lists, tuples, tensors, numbers, text and None; tensors in it are on the CPU.

    Raises:
        TypeError: the value holds anything else.
    """
    text, tensors = serialization.encode(value)
    return torch.frombuffer(bytearray(len(text).to_bytes(_LENGTH, "little") + text + tensors), dtype=torch.uint8)


def decode(message: UInt8[Tensor, " n"]) -> Any:
    """Return the value of a message, with its original types. Raises ``ValueError`` for bytes that are no message."""
    content = message.cpu().numpy().tobytes()
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    if len(content) < _LENGTH or end > len(content):
        raise ValueError(f"{len(content)} bytes from another process are no whole message")
    try:
        return serialization.decode(content[_LENGTH:end], content[end:])
    except (ValueError, RecursionError, SafetensorError) as error:
        raise ValueError(f"{len(content)} bytes from another process are no message of ours: {error}") from error


def all_gather(value: Any) -> list[Any]:
    """Return the values of all processes, in order of rank: lengths are sent first, then padded messages."""
    own = encode(value).to(_device())
    sizes = [torch.empty(1, dtype=torch.int64, device=own.device) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([len(own)], device=own.device))
    lengths = [int(size) for size in sizes]
    padded = own.new_zeros(max(lengths))
    padded[: len(own)] = own
    messages = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(messages, padded)
    return [decode(message[:length]) for message, length in zip(messages, lengths, strict=True)]


def broadcast(value: Any) -> Any:
    """Return the first process's value."""
    first = dist.get_rank() == 0
    message = encode(value if first else None).to(_device())
    size = torch.tensor([len(message)], device=message.device)
    dist.broadcast(size, src=0)
    if not first:
        message = message.new_empty(_allowed(int(size)))
    dist.broadcast(message, src=0)
    return value if first else decode(message)


def _allowed(length: int) -> int:
    if length < 0:
        raise ValueError(f"another process announces a message of {length} bytes")
    return length


def _device() -> torch.device:
    """Return the device that messages of this group need: NCCL moves data between GPUs alone, one a process."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
