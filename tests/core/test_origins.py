"""The label of a run: its method's, unless it runs on another kind of network."""

from __future__ import annotations

import pytest

from cl_lightning.core.origins import ORIGINS, origin_of_run


@pytest.mark.parametrize("label", ORIGINS)
def test_on_its_own_kind_of_network_a_method_has_its_own_label(label: str) -> None:
    assert origin_of_run(label, "cnn", "cnn") == label


@pytest.mark.parametrize("label", ORIGINS)
def test_on_another_kind_all_but_a_control_is_an_adaptation(label: str) -> None:
    found = origin_of_run(label, "cnn", "transformer")
    assert found == ("reference" if label == "reference" else "adaptation")
