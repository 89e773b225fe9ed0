"""An engine over a few images, for phases through the real Trainer."""

from __future__ import annotations

from pathlib import Path

import pytest

from cl_lightning.learning.trainer import quieten_lightning
from tests.learning.a_phase import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    quieten_lightning()  # as a run does; pytest undoes it
    return Bench(tmp_path)
