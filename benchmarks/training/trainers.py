"""The trainers of `peers.toml`: how they are installed into folders of their own, and how one of them is measured."""

import json
import os
import subprocess
import sys
import tomllib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.training.rows.settings import Settings

FILE = Path(__file__).with_name("peers.toml")
_ROWS = Path(__file__).with_name("rows")


@dataclass(frozen=True)
class Trainer:
    """One entry of `peers.toml`."""

    name: str
    program: str
    pip: list[str] = field(default_factory=list)
    """What its environment holds; none: it runs in ours."""
    options: dict[str, Any] = field(default_factory=dict)
    device: str = ""
    """The only kind of device it is measured on; empty: any."""
    note: str = ""

    def python(self, folder: Path) -> Path:
        """The interpreter it runs under."""
        return folder / self.name / "venv/bin/python" if self.pip else Path(sys.executable)


def load_trainers(file: Path = FILE) -> list[Trainer]:
    """All entries, in their order."""
    return [Trainer(**entry) for entry in tomllib.loads(file.read_text())["row"]]


def install(trainer: Trainer, folder: Path) -> None:
    """Make its environment if it is not there as `peers.toml` has it. Raises `CalledProcessError`."""
    done = folder / trainer.name / "installed.json"
    if not trainer.pip or (done.is_file() and json.loads(done.read_text()) == trainer.pip):
        return
    done.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(done.parent / "venv")], check=True)
    subprocess.run([str(trainer.python(folder)), "-m", "pip", "install", "--quiet", *trainer.pip], check=True)
    done.write_text(json.dumps(trainer.pip))


def measure(trainer: Trainer, settings: Settings, folder: Path, minutes: float) -> dict[str, Any]:
    """Run its program; returns what it measured. Raises `RuntimeError` with the end of its log if it fails."""
    work = Path(settings.folder)
    work.mkdir(parents=True, exist_ok=True)
    said, log = work / "settings.json", work / "log.txt"
    said.write_text(json.dumps(asdict(replace(settings, options=trainer.options))))
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(settings.threads)}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2]) if not trainer.pip else ""
    if settings.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    with log.open("wb") as file:
        ended = subprocess.run(
            [str(trainer.python(folder)), str(_ROWS / trainer.program), str(said)],
            stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=work, timeout=60 * minutes, check=False,
        )  # fmt: skip
    if ended.returncode:
        raise RuntimeError(f"{trainer.name} ended with {ended.returncode}:\n{log.read_text(errors='replace')[-1500:]}")
    measured: dict[str, Any] = json.loads(Path(settings.out).read_text())
    return measured
