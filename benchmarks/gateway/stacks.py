"""Collapsed stacks (`frame;frame;frame count`) and the tables made of them. Pure."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.gateway.processes import CpuTime

LARGEST = 30
WAITS = (
    "pthread_cond_timedwait",
    "PyThread_acquire_lock_timed",
    "sem_wait",
    "clock_nanosleep",
    "watch (gateway/lifeline",
)
"""Near the innermost frame, these mean a thread that waits for a lock, a queue or the clock, and uses no core."""
POLL = "epoll_pwait"
NO_OWN_FUNCTION = "none: event loop, libraries and the interpreter on their own"
LIBRARIES = {
    "uvloop": {"loop.c"},
    "libuv": {
        "core.c",
        "linux.c",
        "stream.c",
        "tcp.c",
        "loop-watcher.c",
        "queue.h",
        "heap-inl.h",
        "timer.c",
        "async.c",
    },
}
"""Sources that do not name the library they are of."""
FRAME = re.compile(r"^(?P<name>.*?)(?: \((?P<file>[^()]*)\))?$")
THREAD = re.compile(r"^thread \((?P<id>\d+)\): (?P<name>.*)$")
LINE = re.compile(r":\d+\)$")


@dataclass(frozen=True)
class Stacks:
    """Samples by stack, outermost frame first."""

    samples: dict[tuple[str, ...], int]

    @classmethod
    def read(cls, text: str) -> "Stacks":
        """From py-spy's `raw` format."""
        found: Counter[tuple[str, ...]] = Counter()
        for line in text.splitlines():
            stack, _, count = line.rpartition(" ")
            if stack:
                if not count.isdigit():  # a look without stopping the worker can see half a name
                    continue
                found[tuple(LINE.sub(")", frame) for frame in stack.split(";"))] += int(count)
        return cls(dict(found))

    def busy(self, cpu_samples: float) -> "Stacks":
        """Without the threads that wait. A poll waits or works; it is kept as far as the CPU time used leaves room."""
        busy = {stack: count for stack, count in self.samples.items() if not _waits(stack)}
        polls = {stack: count for stack, count in busy.items() if POLL in stack[-1]}
        others = sum(busy.values()) - sum(polls.values())
        share = min(1.0, max(0.0, cpu_samples - others) / max(1, sum(polls.values())))
        return Stacks(busy | {stack: round(count * share) for stack, count in polls.items()})

    @property
    def total(self) -> int:
        """All samples."""
        return sum(self.samples.values())

    def by_function(self) -> Counter[str]:
        """Self time: samples by the innermost frame."""
        found: Counter[str] = Counter()
        for stack, count in self.samples.items():
            found[stack[-1]] += count
        return found

    def by_own_function(self) -> Counter[str]:
        """Samples by the innermost function of the gateway, with all that libraries do for it."""
        found: Counter[str] = Counter()
        for stack, count in self.samples.items():
            found[next((frame for frame in reversed(stack) if _is_own(frame)), NO_OWN_FUNCTION)] += count
        return found

    def thread_names(self) -> dict[int, str]:
        """The threads that were seen, by the operating system's id."""
        found = (THREAD.match(stack[0]) for stack in self.samples)
        return {int(match["id"]): match["name"] for match in found if match}

    def by_package(self) -> Counter[str]:
        """Samples by the package, or the library, of the innermost frame."""
        found: Counter[str] = Counter()
        for stack, count in self.samples.items():
            found[package_of(stack[-1])] += count
        return found


def _waits(stack: tuple[str, ...]) -> bool:
    return any(mark in frame for frame in stack[-3:] for mark in WAITS)


def _is_own(frame: str) -> bool:
    return file_of(frame).startswith("gateway/") and file_of(frame) != "gateway/worker.py"


def is_python(frame: str) -> bool:
    """Whether a frame is a Python function; compiled `.pyx` code is not."""
    return ".py" in file_of(frame) and ".pyx" not in file_of(frame)


def file_of(frame: str) -> str:
    """The file of a frame, without the line; empty if it names none."""
    found = FRAME.match(frame)
    return (found["file"] or "").partition(":")[0] if found else ""


def package_of(frame: str) -> str:
    """What a frame belongs to: a package, a shared library, or the interpreter."""
    file = file_of(frame)
    if is_python(frame):
        parts = file.removeprefix("./").split("/")
        return "/".join(parts[:2]) if parts[0] == "gateway" and len(parts) > 2 else parts[0]
    folder, _, name = file.rpartition("/")
    for library, sources in LIBRARIES.items():
        if name in sources:
            return library
    if name.endswith((".c", ".h", ".hpp", ".cpp")) or name.startswith("libpython"):
        return folder.rpartition("/")[2] or "interpreter and its C modules"
    return folder.rpartition("/")[2] or name.partition(".")[0] or "native"


def thread_table(threads: Mapping[int, CpuTime], names: Mapping[int, str], units: int, unit: str) -> str:
    """CPU of each thread, in microseconds."""
    parts = ["", f"| us/{unit} | of it in the kernel | thread |", "|--:|--:|---|"]
    for tid, cpu in sorted(threads.items(), key=lambda entry: -entry[1].total):
        if cpu.total > 0:
            user_and_system, system = (1e6 * seconds / max(1, units) for seconds in (cpu.total, cpu.system))
            parts.append(f"| {user_and_system:.1f} | {system:.1f} | {names.get(tid, 'never held the interpreter')} |")
    return "\n".join(parts)


def python_tables(stacks: Stacks, us_each: float, unit: str, speed: float) -> str:
    """Who held the interpreter, as shares of the worker's CPU."""
    note = f"Python: {stacks.total} samples of who held the interpreter; the worker ran at {100 * speed:.0f} %."
    tables = [
        _table("function of the gateway, with the libraries it calls", stacks.by_own_function(), us_each, unit),
        _table("function, self time with the native code it calls", stacks.by_function(), us_each, unit),
        _table("package, self time", stacks.by_package(), us_each, unit),
    ]
    return "\n".join(["", note, *tables])


def native_tables(stacks: Stacks, us_each: float, unit: str, speed: float) -> str:
    """What ran at work, native code too."""
    note = (
        f"Native: {stacks.total} samples of threads at work; the worker ran at {100 * speed:.0f} %: the further below "
        "100, the more what runs by the clock is overstated."
    )
    tables = [
        _table("package or library, self time", stacks.by_package(), us_each, unit),
        _table("function, self time", stacks.by_function(), us_each, unit),
    ]
    return "\n".join(["", note, *tables])


def _table(name: str, counts: Counter[str], us_each: float, unit: str) -> str:
    total = max(1, sum(counts.values()))
    parts = ["", f"| us/{unit} | share | {name} |", "|--:|--:|---|"]
    parts += [
        f"| {us_each * count / total:.1f} | {100 * count / total:.1f} % | `{frame}` |"
        for frame, count in counts.most_common(LARGEST)
    ]
    return "\n".join(parts)
