"""Sends a folder of safetensors into a running LMDeploy engine; a short-lived child of the engine's agent.

LMDeploy takes new weights as handles to memory on the engine's own devices, so somebody on that host has to hold the
tensors there, in the engine's Python. Run by file path, because that environment need not contain Alignway; for the
same reason nothing here imports it, and torch is imported late, so that importing this module stays cheap.

Conversation over standard input and output, one word a line: it says `ready` once it could read the folder, waits
for `go` (the engine's memory is not free before that), then says `sent BUCKETS` or `failed REASON`.
"""

import argparse
import base64
import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

REFUSAL_CHARACTERS = 300
LAYER = re.compile(r"\.layers\.(\d+)\.")
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies."""

    file: Path
    name: str

    def read(self, device: str) -> "torch.Tensor":
        """The tensor, on `device`."""
        from safetensors import safe_open

        with safe_open(self.file, "pt", device=device) as tensors:
            found: torch.Tensor = tensors.get_tensor(self.name)
        return found


def list_buckets(folder: Path) -> list[list[StoredTensor]]:
    """The tensors of `folder`, one bucket for each decoder layer after one for everything else.

    A whole layer at a time is what both of LMDeploy's engines take.
    """
    from safetensors import safe_open

    buckets: dict[int, list[StoredTensor]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            names = tensors.keys()
        for name in names:
            layer = LAYER.search(name)
            buckets.setdefault(int(layer[1]) if layer else -1, []).append(StoredTensor(file, name))
    if not buckets:
        raise FileNotFoundError(f"no *.safetensors in {folder}")
    return [buckets[layer] for layer in sorted(buckets)]


def serialise(tensors: list[tuple[str, "torch.Tensor"]]) -> str:
    """Handles to `tensors`, which the caller keeps until the engine has answered."""
    from torch.multiprocessing.reductions import reduce_tensor

    handles = [(name, reduce_tensor(tensor)) for name, tensor in tensors]  # type: ignore[no-untyped-call]
    return base64.b64encode(bytes(ForkingPickler.dumps(handles))).decode()


def pick_devices(ranks: int) -> list[str]:
    """One device for each tensor-parallel rank. Without accelerators, shared memory: no real engine runs there."""
    import torch

    if torch.cuda.is_available():
        return [f"cuda:{rank}" for rank in range(ranks)]
    torch.multiprocessing.set_sharing_strategy("file_system")  # type: ignore[no-untyped-call]
    return ["cpu"] * ranks


def post(url: str, body: dict[str, Any], timeout_seconds: float) -> None:
    """Post `body` as JSON; anything but success raises `OSError`."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        NO_PROXY.open(request, timeout=timeout_seconds).close()
    except urllib.error.HTTPError as error:
        refusal = error.read(REFUSAL_CHARACTERS).decode(errors="replace")
        raise OSError(f"the engine answered {error.code}: {refusal}") from error


def requests(buckets: list[list[StoredTensor]], devices: list[str]) -> Iterator[dict[str, Any]]:
    """The body of each update. A bucket is held on the devices until the next one is asked for."""
    for number, bucket in enumerate(buckets, start=1):
        held = [[(tensor.name, tensor.read(device)) for tensor in bucket] for device in devices]
        yield {
            "serialized_named_tensors": [serialise(tensors) for tensors in held],
            "load_format": None,
            "finished": number == len(buckets),
        }
        del held  # before the next bucket is read, so that the devices never hold two


def send(url: str, buckets: list[list[StoredTensor]], ranks: int, timeout_seconds: float) -> None:
    """Send every bucket."""
    for body in requests(buckets, pick_devices(ranks)):
        post(f"{url}/update_weights", body, timeout_seconds)


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="base address of the engine")
    parser.add_argument("--folder", required=True, type=Path, help="folder of safetensors")
    parser.add_argument("--ranks", type=int, default=1, help="tensor-parallel ranks of the engine")
    parser.add_argument("--timeout-seconds", type=float, default=120.0, help="for one bucket")
    return parser.parse_args()


def say(*words: object) -> None:
    """Tell the agent, on one line."""
    print(*(" ".join(str(word).split()) for word in words), flush=True)


def main() -> int:
    """The conversation described above; 0 when every bucket was taken."""
    arguments = read_arguments()
    try:
        import torch  # noqa: F401  # Slow: done while the engine still serves.

        buckets = list_buckets(arguments.folder)
        say("ready")
        if sys.stdin.readline().strip() != "go":
            return 1
        send(arguments.url, buckets, arguments.ranks, arguments.timeout_seconds)
    except Exception as error:
        say("failed", f"{type(error).__name__}:", error)
        return 1
    say("sent", len(buckets))
    return 0


if __name__ == "__main__":
    sys.exit(main())
