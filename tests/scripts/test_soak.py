"""Attacks for as long as one likes find nothing, and find what was planted."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from cl_lightning.config.yaml_files import options
from scripts.soak.__main__ import SHARES, Soak, attacks, main
from scripts.soak.attack import Attack, Fault, Tally
from scripts.soak.runs import KINDS, Peace

ROOT = Path(__file__).parents[2]


def soak(*arguments: str, plant: str = "", seconds: int = 1200) -> subprocess.CompletedProcess[str]:
    """In a process of its own, which forks; ``plant`` is code that puts a bug into the program before."""
    code = f"import sys\nfrom scripts.soak.__main__ import main\n{plant}\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_minute_of_every_attack_finds_nothing() -> None:
    done = soak("--minutes", "1", "--seed", "0")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "seed 0: 0 faults (0 traceback, 0 accepted, 0 lost, 0 hung)" in done.stdout


PLANTED = {
    "kills": (
        "from cl_lightning.learning import lightning_module\nlightning_module.load_optimiser = lambda *state: None",
        "lost",
    ),
    "pairs": (
        "from contextlib import nullcontext\nimport cl_lightning.run.enter_run_dir as place\n"
        "place.only_writer = lambda run_dir: nullcontext(run_dir.mkdir(exist_ok=True))",
        "lost",
    ),
    "checkpoints": ("import cl_lightning.checkpoint.files as kept\nkept.alteration = lambda path: None", "accepted"),
    "parts": (
        "import cl_lightning.checkpoint.files as kept\nkept.alteration = lambda path: None\n"
        "kept.weights_of = lambda content, digest: content['weights']",
        "accepted",
    ),
    "bundles": ("import cl_lightning.bundle.archive as archive\narchive.check_archive = lambda opened: None", ""),
    "changed data": (
        "from cl_lightning.run.data_record import DataRecord\nDataRecord.check = lambda self, payload: None\n"
        "import cl_lightning.run.run_dir as writer\nwriter.comparable = lambda part: None",
        "accepted",
    ),
    "lines": (
        "import scripts.soak.command_lines as lines\ncompose = lines.compose_typed\n"
        "def wrong(words):\n    return 1 / 0 if any(word.startswith('data.') for word in words) else compose(words)\n"
        "lines.compose_typed = wrong",
        "traceback",
    ),
}
"""A bug of each kind, and what it is called when it is found."""


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PLANTED)
def test_a_bug_that_was_planted_is_found(name: str) -> None:
    plant, kind = PLANTED[name]
    done = soak("--minutes", "1.5", "--seed", "0", "--only", name, plant=plant)
    assert done.returncode == 1, done.stdout[-4000:]
    assert f"FAULT in {name}: {kind}" in done.stdout


def test_every_attack_has_a_share_and_every_method_is_killed(tmp_path: Path) -> None:
    assert set(attacks(Peace(tmp_path))) == set(SHARES)
    assert set(options("method")) <= set(KINDS)


class Dice:
    """An attack that has a fault with every six."""

    name, unit = "lines", "throws"

    def __init__(self) -> None:
        self.thrown: list[int] = []

    def trial(self, chance: random.Random, folder: Path) -> Tally:
        """Throw once."""
        self.thrown.append(chance.randint(1, 6))
        (folder / "left").write_text("")
        if self.thrown[-1] == 6:
            raise Fault("accepted", "a six")
        if self.thrown[-1] == 5:
            raise ZeroDivisionError
        tally = Tally()
        tally.tried["throws"] += 1
        return tally


def test_a_fault_is_counted_kept_and_can_be_repeated(tmp_path: Path) -> None:
    said: list[str] = []
    dice: Attack = Dice()
    tried = Soak({"lines": dice}, tmp_path, 3, said.append)
    for number in range(30):
        tried.try_once("lines", number)
    thrown = list(dice.thrown)  # type: ignore[attr-defined]
    faults = [number for number, found in enumerate(thrown) if found > 4]
    assert faults
    assert len(tried.faults) == len(faults)
    assert {path.name for path in tmp_path.iterdir()} == {f"lines_{number}" for number in faults}
    first = faults[0]
    assert f'again: python -m scripts.soak --again "lines:3:{first}"' in said[0]
    Soak({"lines": dice}, tmp_path, 3, said.append).try_once("lines", first)
    assert dice.thrown[-1] == thrown[first]  # type: ignore[attr-defined]
    tried.report()
    sixes = thrown.count(6)
    assert (
        said[-1] == f"seed 3: {len(faults)} faults ({len(faults) - sixes} traceback, {sixes} accepted, 0 lost, 0 hung)"
    )
    assert any(f"{30 - len(faults)} throws" in line for line in said)


@pytest.mark.parametrize("words", [["--only", "kill"], ["--again", "kills:1"], ["--again", "x:1:1"]])
def test_wrong_words_are_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "attacks are kills, lines, checkpoints" in capsys.readouterr().err
