"""Collapsed stacks (`frame;frame;frame count`) and the tables made of them. Pure."""

import re
from collections import Counter
from dataclasses import dataclass

LARGEST = 30
FRAME = re.compile(r"^(?P<name>.*?)(?: \((?P<file>[^()]*)\))?$")


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
                found[tuple(stack.split(";"))] += int(count)
        return cls(dict(found))

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

    def by_python_function(self) -> Counter[str]:
        """Samples by the innermost Python function, with all the native code it called."""
        found: Counter[str] = Counter()
        for stack, count in self.samples.items():
            found[next((frame for frame in reversed(stack) if is_python(frame)), "no Python function")] += count
        return found

    def by_package(self) -> Counter[str]:
        """Samples by the package, or the library, of the innermost frame."""
        found: Counter[str] = Counter()
        for stack, count in self.samples.items():
            found[package_of(stack[-1])] += count
        return found


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
    name = file.rpartition("/")[2]
    return re.sub(r"(\.cpython.*|\.so.*|-[0-9.]+)$", "", name) or "native"


def page(title: str, us_per_unit: float, unit: str, stacks: Stacks) -> str:
    """Three tables, in microseconds."""
    per_sample = us_per_unit / max(1, stacks.total)
    parts = [f"\n## {title}: {us_per_unit:.1f} us of worker CPU each, {stacks.total} samples"]
    for name, counts in (
        ("Python function, with the native code it calls", stacks.by_python_function()),
        ("function, self time", stacks.by_function()),
        ("package or library, self time", stacks.by_package()),
    ):
        parts += ["", f"| us/{unit} | share | {name} |", "|--:|--:|---|"]
        for frame, count in counts.most_common(LARGEST):
            share = 100 * count / max(1, stacks.total)
            parts.append(f"| {count * per_sample:.1f} | {share:.1f} % | `{frame}` |")
    return "\n".join(parts)
