"""Kills of `alignway train` at random moments: a run resumed after every kill ends in the bytes of one left alone.

    python -m benchmarks.resume --kills 20 --minutes 45

Every process is a command line of its own on a real model, from its first import to its last write, and is killed with
SIGKILL at a moment that chance picks out of the time that a whole run takes. A run that ends before its kill is
compared with the one left alone, and the next one begins. Runs add up: the target is 20 kills over all recorded runs.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.record import record, runs

NAME = "resume"
TARGET_KILLS = 20
PAIRS = 24
CHECKPOINT_SECONDS = 2
ENDED, KILLED, FAILED = "ended", "killed", "failed"


@dataclass
class Seen:
    """What happened so far."""

    kills_at_step: list[int] = field(default_factory=list)
    """How many steps were written down at each kill."""
    quickest_seconds: float = float("inf")
    """Of a process that ended by itself, begun anew: kills come within that time, else a machine that was busy at first
    would see none."""
    compared: int = 0
    different: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Trainer:
    """Starts `alignway train` on the same pairs with the same options, again and again."""

    folder: Path
    words: tuple[str, ...]

    def run(self, out: Path, kill_after_seconds: float | None = None) -> str:
        """Begin the run in `out`, or go on with it, until it ends or the time is up."""
        asked = ("--resume",) if (out / "run.json").is_file() else self.words
        command = [sys.executable, "-m", "gateway", "train", *asked, "--out", str(out)]
        command += ["--checkpoint-seconds", str(CHECKPOINT_SECONDS)]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            return FAILED if process.wait(kill_after_seconds) else ENDED
        except subprocess.TimeoutExpired:
            return KILLED
        finally:
            process.kill()
            process.wait()


def measure(kills: int, minutes: float, model: str, steps: int, seed: int) -> dict[str, Any]:
    """Kill and resume until there were so many kills, and let the run at hand end; or until the time is up."""
    deadline = time.monotonic() + minutes * 60
    chance, seen = random.Random(seed), Seen()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trainer = Trainer(folder, options(folder, model, steps))
        began = time.monotonic()
        if trainer.run(folder / "whole") != ENDED:
            sys.exit((folder / "log").read_text(errors="replace")[-2000:])
        whole_seconds = seen.quickest_seconds = time.monotonic() - began
        print(f"a run left alone takes {whole_seconds:.0f} s")
        for number in count():
            out = folder / f"run-{number}"
            if not to_its_end(trainer, out, kills, chance, seen, deadline):
                break
            seen.compared += 1
            seen.different += weights_sha256(out) != weights_sha256(folder / "whole")
            if len(seen.kills_at_step) >= kills:
                break
    return {
        "model": model, "steps": steps, "pairs": PAIRS, "seed": seed,
        "threads": int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        "whole_run_seconds": round(whole_seconds, 1),
        "kills": len(seen.kills_at_step), "kills_at_step": seen.kills_at_step, "runs_compared": seen.compared,
        "different": seen.different, "failures": seen.failures,
    }  # fmt: skip


def to_its_end(trainer: Trainer, out: Path, kills: int, chance: random.Random, seen: Seen, deadline: float) -> bool:
    """Kill and resume one run until it ends; False if it failed, or the deadline passed first."""
    while (left := deadline - time.monotonic()) > 0:
        began, is_new = time.monotonic(), not out.exists()
        kills_wanted = len(seen.kills_at_step) < kills
        how = trainer.run(out, min(left, chance.uniform(0.0, seen.quickest_seconds)) if kills_wanted else left)
        if how == KILLED and kills_wanted:
            seen.kills_at_step.append(steps_done(out))
            print(f"kill {len(seen.kills_at_step)}: {seen.kills_at_step[-1]} steps done")
        elif how == FAILED:
            seen.failures.append((trainer.folder / "log").read_text(errors="replace")[-500:])
        elif how == ENDED and is_new:
            seen.quickest_seconds = min(seen.quickest_seconds, time.monotonic() - began)
        if how != KILLED:
            return how == ENDED
    return False


def options(folder: Path, model: str, steps: int) -> tuple[str, ...]:
    """Short pairs with a rule, and a run on them; dropout, so that the noise has to be resumed too."""
    rows = [
        {
            "prompt": f"Which colour has thing {number}?",
            "chosen": "Blue.",
            "rejected": "I cannot say. " * (1 + number % 3),
        }
        for number in range(PAIRS)
    ]
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return (
        "--model", model, "--dataset", str(path), "--epochs", "100", "--max-steps", str(steps), "--dropout", "0.05",
        "--device", "cpu", "--tokens-per-batch", "2048",
    )  # fmt: skip


def weights_sha256(out: Path) -> str:
    """Digest of the adapter's weights."""
    return hashlib.sha256((out / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()


def steps_done(out: Path) -> int:
    """Lines in the metrics file."""
    path = out / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def main() -> None:
    """Run, record, and say how far the sum of runs is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resume", description=__doc__)
    parser.add_argument("--kills", type=int, default=TARGET_KILLS)
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    asked = parser.parse_args()
    found = measure(asked.kills, asked.minutes, asked.model, asked.steps, asked.seed)
    path = record(NAME, found)
    everything = runs(NAME)
    kills, different = sum(run["kills"] for run in everything), sum(run["different"] for run in everything)
    print(f"{found}\n{path}\nso far: {kills} of {TARGET_KILLS} kills, {different} runs came out different")
    sys.exit(bool(found["different"] or found["failures"] or not found["runs_compared"]))


if __name__ == "__main__":
    main()
