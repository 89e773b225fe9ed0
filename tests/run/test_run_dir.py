"""What a checkpoint must agree in with the run that goes on from it."""

from __future__ import annotations

from cl_lightning.run.protocol import without_files


def test_the_path_of_weights_that_are_in_the_checkpoint_makes_no_other_run() -> None:
    """It was kept as it was typed once, and is absolute by now."""

    def protocol(file: str | None, temperature: float = 1.0) -> dict[str, object]:
        return {"method": "meat", "method_options": {"backbone_file": file, "temperature": temperature}}

    assert without_files(protocol("w.pth")) == without_files(protocol("/there/me/w.pth"))
    assert without_files(protocol("w.pth")) != without_files(protocol("w.pth", 2.0))
    assert without_files(["a"]) == ["a"]
