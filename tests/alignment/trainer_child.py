"""`alignway train` in processes of its own, real ones, forked from one that imported torch already."""

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import psutil

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "alignment.library",
        "alignment.jobs.training",
        "alignment.commands.train",
        "gateway.__main__",
        "tensorboard.compat.proto.event_pb2",
        "matplotlib.figure",
    ]
)
_WRITING = os.O_WRONLY | os.O_RDWR
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod"}
_PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class Trouble:
    """What befalls a process; by default nothing."""

    limits: Mapping[int, int] = field(default_factory=dict)
    """Of `resource`, by number."""
    memory_bytes: int | None = None
    """How much more address space it may take than it has when it begins."""
    killed_at_change: int | None = None
    """The number of the change to files below `folder` at whose beginning the process kills itself."""
    half_written: int | None = None
    """The number of the file that torch or safetensors leave half written, whereupon the process kills itself."""
    folder: Path = Path()


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it said."""

    status: int
    out: str
    err: str


def apart(function: Callable[[Any], Any], argument: Any) -> Any:
    """What a function of a module gives in a process of its own."""
    with _CONTEXT.Pool(1) as pool:
        return pool.apply(function, (argument,))


def start(words: Sequence[Any], log: Path, trouble: Trouble = Trouble()) -> ForkServerProcess:
    """Start `alignway train` with these words; what it says goes to `log`.out and `log`.err."""
    process = _CONTEXT.Process(target=_train, args=([str(word) for word in words], str(log), trouble))
    process.start()
    return process


def run(words: Sequence[Any], log: Path, trouble: Trouble = Trouble()) -> Ended:
    """Run `alignway train` to its end."""
    for kind in (".out", ".err"):
        log.with_suffix(kind).unlink(missing_ok=True)
    process = start(words, log, trouble)
    process.join(_PATIENCE_SECONDS)
    assert process.exitcode is not None, "alignway train did not end"
    return Ended(process.exitcode, log.with_suffix(".out").read_text(), log.with_suffix(".err").read_text())


def _train(words: list[str], log: str, trouble: Trouble) -> None:
    import torch

    from gateway.__main__ import main

    for number, suffix in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(log + suffix, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)
    # One thread: other tests, and other people's work, may have the cores, and threads that wait would spin.
    torch.set_num_threads(1)
    os.environ["ALIGNWAY_CACHE_DIR"] = str(Path(log).parent / "cache")
    if trouble.killed_at_change is not None:
        sys.addaudithook(_killer(trouble.killed_at_change, str(trouble.folder)))
    if trouble.half_written is not None:
        _tear(trouble.half_written)
    limits = dict(trouble.limits)
    if trouble.memory_bytes is not None:
        limits[resource.RLIMIT_AS] = psutil.Process().memory_info().vms + trouble.memory_bytes
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))
    sys.argv = ["alignway", "train", *words]
    main()


def _killer(number: int, folder: str) -> Callable[[str, tuple[Any, ...]], None]:
    seen = 0

    def watch(event: str, details: tuple[Any, ...]) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(details[2], int) and bool(details[2] & _WRITING)
        if (writes or event in _CHANGES) and str(details[0]).startswith(folder):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    return watch


def _tear(number: int) -> None:
    """torch and safetensors write outside of Python: let the file be written, cut it, and die."""
    import peft.peft_model
    import torch

    seen = 0

    def torn(write: Callable[..., None], path_of: Callable[..., Any]) -> Callable[..., None]:
        def written(*args: Any, **more: Any) -> None:
            nonlocal seen
            write(*args, **more)
            seen += 1
            if seen == number:
                path = Path(path_of(*args))
                os.truncate(path, path.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)

        return written

    torch.save = torn(torch.save, lambda value, path, *_: path)
    peft.peft_model.safe_save_file = torn(peft.peft_model.safe_save_file, lambda tensors, path, *_: path)
