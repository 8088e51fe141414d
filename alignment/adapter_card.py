"""The model card beside an adapter that was trained alone: what it is, what it learnt from, how to open it. Pure."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from alignment.card import described, table
from alignment.jobs.contracts import TrainJob, TrainResult
from gateway.contracts.release import BaseModelRef

_LEFT_OUT = {
    "too_long": "longer than max_length_tokens, even without the oldest turns",
    "same_tokens": "both answers are the same tokens",
    "thinking_mismatch": "one answer has a thought and the other none, and the template cannot show them alike",
    "tool_calls_not_shown": "the chat template leaves the answer's tool calls out",
    "thumb_down": "an answer with a thumb down is nothing to imitate",
}
_LOCAL = "local/"


def adapter_card(job: TrainJob, result: TrainResult, run: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """The whole card. `run` says what data the run was given, as `run.json` does; no folder of the machine is named."""
    base, method = job.base, job.options.method
    options = job.options.model_dump(mode="json", by_alias=True, exclude_none=True)
    sections = [
        f"---\nbase_model: {base.model}\nlibrary_name: peft\ntags: [alignway, {method}, lora]\n---",
        f"# Adapter for {base.model}, trained with {method.upper()}",
        f"A LoRA adapter of rank {job.options.rank}, in the folder `{result.adapter.name}`.",
        f"## Open it\n\n{_opening(base, result.adapter.name)}",
        "## Base model\n\n" + table(("what", "which"), base.model_dump().items()),
        "## Data\n\n" + table(("what", "which"), _data(job, result, run)),
        "## Options\n\n" + table(("option", "value"), options.items()),
        "## Why these numbers\n\n" + "\n".join(f"- {reason}" for reason in result.reasons),
        *_metrics(result),
        "## Made with\n\n" + table(("package", "version"), versions.items()),
        "![training curves](training.png)",
    ]
    return "\n\n".join(sections) + "\n"


def _opening(base: BaseModelRef, adapter: str) -> str:
    if base.model.startswith(_LOCAL):
        name = base.model.removeprefix(_LOCAL)
        loading = f'"{name}")  # the folder of the base model; its weights are named below'
    else:
        loading = f'"{base.model}", revision="{base.revision}")'
    return (
        "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
        f"base = AutoModelForCausalLM.from_pretrained({loading}\n"
        f'model = PeftModel.from_pretrained(base, "{adapter}")\n```'
    )


def _data(job: TrainJob, result: TrainResult, run: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    yield "file", Path(run["dataset"]).name
    yield "sha256", run["data_sha256"]
    yield "rows trained on", result.pairs
    for reason, count in result.dropped.items():
        yield "rows left out", f"{count}: {_LEFT_OUT.get(reason, reason)}"
    if result.shortened:
        yield "rows without their oldest turns, to fit", result.shortened
    if run.get("holdout"):
        yield "held-out file", Path(run["holdout"]).name
        yield "its sha256", run["holdout_sha256"]
    elif result.best:
        yield "held out", "a tenth of the prompts, by a hash of the prompt"


def _metrics(result: TrainResult) -> Iterable[str]:
    yield "## Metrics of the last step\n\n" + table(("metric", "value"), described(result.last))
    if result.best:
        yield "## Best on the held-out rows\n\n" + table(("metric", "value"), described(result.best))
