"""One export, top to bottom: merge if there is an adapter, measure, quantise, measure again, keep or refuse."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from alignment.adapter.merge import adapter_rank, merge_adapter
from alignment.errors import BaseModelMissing, ExportFailed
from alignment.export.calibration import calibration_ids
from alignment.export.environment import quantize
from alignment.export.order import CALIBRATED, ExportResult, QuantizeOrder, Scheme
from alignment.files import folder_bytes, fresh_folder, make_readable, rename_into_place
from alignment.gate.perplexity import perplexity, perplexity_texts
from alignment.models import load_model, load_tokenizer
from alignment.side_files import copy_side_files, forget_folder

RECORD_FILE = "alignway-export.json"
_WEIGHTS = ("config.json", "*.safetensors", "*.safetensors.index.json")


class ExportJob(NamedTuple):
    """What is exported, and how."""

    model: Path
    adapter: Path | None
    out: Path
    scheme: Scheme | None
    """None copies the model as it is."""
    dataset: Path | None
    """Rows to calibrate with; None takes the texts that come with us."""
    max_rise: float
    """The largest rise of perplexity that is kept, as a share of what it was."""


def export(job: ExportJob, python: Path | None) -> ExportResult:
    """Write the folder `out`, whole or not at all. `python` is the export environment's; a plain copy needs none.

    Raises `ExportFailed` if quantising fails or costs more than is allowed.
    """
    out = job.out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with _workplace(out) as workplace:
        model = _whole_model(job, workplace)
        written = fresh_folder(workplace / "out")
        if job.scheme is None or python is None:
            result = _copied(model, written)
        else:
            result = _quantised(job, job.scheme, model, written, python)
        (written / RECORD_FILE).write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")
        make_readable(written)
        rename_into_place(written, out)
    return result


@contextmanager
def _workplace(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out`, on the same disk; it is gone afterwards, however that comes."""
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        yield Path(folder)


def _whole_model(job: ExportJob, workplace: Path) -> Path:
    if job.adapter is None:
        return job.model
    adapter_rank(job.adapter)
    merge_adapter(job.model, job.adapter, workplace / "merged")
    return workplace / "merged"


def _copied(model: Path, written: Path) -> ExportResult:
    if not (model / "config.json").is_file() or not list(model.glob("*.safetensors")):
        raise BaseModelMissing(f"{model} holds no config.json with safetensors; nothing was copied")
    for pattern in _WEIGHTS:
        for file in model.glob(pattern):
            shutil.copyfile(file, written / file.name)
    copy_side_files(model, written)
    forget_folder(written / "config.json")
    return ExportResult(scheme="none", size_bytes=folder_bytes(written))


def _quantised(job: ExportJob, scheme: Scheme, model: Path, written: Path, python: Path) -> ExportResult:
    tokenizer = load_tokenizer(model)
    texts = perplexity_texts()
    before = perplexity(load_model(model, torch.float32), tokenizer, texts)
    order = QuantizeOrder(
        model=model.resolve(),
        out=written,
        scheme=scheme,
        calibration=calibration_ids(tokenizer, job.dataset) if scheme in CALIBRATED else (),
        texts=tuple(tuple(tokenizer(text)["input_ids"]) for text in texts),
    )
    report = quantize(python, order)
    copy_side_files(model, written)
    forget_folder(written / "config.json")
    result = ExportResult(
        scheme=scheme,
        size_bytes=folder_bytes(written),
        perplexity_before=before,
        perplexity_after=report.perplexity,
        calibration_sequences=len(order.calibration),
        seconds=report.seconds,
        versions=report.versions,
    )
    _refuse_if_worse(result, job.max_rise)
    return result


def _refuse_if_worse(result: ExportResult, max_rise: float) -> None:
    """Not a number is worse than any limit."""
    if not result.rise <= max_rise:
        raise ExportFailed(
            f"quantising raised perplexity from {result.perplexity_before:.2f} to {result.perplexity_after:.2f} "
            f"({result.rise:+.1%}), more than --max-perplexity-rise {max_rise:g} allows; nothing was kept. "
            "Try gptq or awq with a --dataset of your own, or fp8"
        )
