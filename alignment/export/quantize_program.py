"""Run by the Python of the export environment, never imported: quantise a model, write it, measure what was written.

One `QuantizeOrder` as JSON on standard input; one line of JSON on standard output: {"report": ...} or {"failure": ...}.
Everything that libraries print goes to standard error.
"""

import importlib.metadata
import json
import math
import os
import sys
import time
import traceback
from typing import Any

GROUP_SIZE = 32
IGNORED = ["lm_head"]
PACKAGES = ("llmcompressor", "compressed-tensors", "transformers", "torch")


def main() -> None:
    """Answer one order."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        answer: dict[str, Any] = {"report": quantize(json.load(sys.stdin))}
    except Exception as error:
        traceback.print_exc()
        answer = {"failure": f"{type(error).__name__}: {error}"}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def quantize(order: dict[str, Any]) -> dict[str, Any]:
    """Quantise in float32, write, and measure the folder that was written.

    What stays unquantised is written in bfloat16 if it was float32, which the engines' 4-bit kernels do not take.
    """
    import torch
    from llmcompressor import oneshot
    from transformers import AutoConfig, AutoModelForCausalLM

    started = time.monotonic()
    model = AutoModelForCausalLM.from_pretrained(order["model"], dtype=torch.float32, local_files_only=True).eval()
    stored = AutoConfig.from_pretrained(order["model"], local_files_only=True).dtype
    oneshot(model=model, recipe=recipe_of(order["scheme"], model), **calibration_of(order["calibration"]))
    model.to(stored if stored in (torch.float16, torch.bfloat16) else torch.bfloat16)
    model.save_pretrained(order["out"], save_compressed=True)
    del model
    return {
        "perplexity": perplexity(load_decompressed(order["out"]), order["texts"]),
        "seconds": time.monotonic() - started,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def recipe_of(scheme: str, model: Any) -> list[Any]:
    """Four bits are symmetric integers in groups of 32; fp8 has a scale a row, and one a token for what flows in."""
    from llmcompressor.modifiers.quantization import QuantizationModifier

    if scheme == "fp8":
        return [QuantizationModifier(targets=["Linear"], scheme="FP8_DYNAMIC", ignore=IGNORED)]
    refuse_odd_widths(model)
    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": GROUP_SIZE}
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    if scheme == "gptq":
        from llmcompressor.modifiers.gptq import GPTQModifier

        return [GPTQModifier(config_groups=groups, ignore=IGNORED)]
    rounding = QuantizationModifier(config_groups=groups, ignore=IGNORED)
    if scheme == "awq":
        from llmcompressor.modifiers.transform.awq import AWQModifier

        never_pin_for_nobody()
        return [AWQModifier(), rounding]
    return [rounding]


def never_pin_for_nobody() -> None:
    """AWQ pins memory, to copy it to an accelerator faster, and fails where there is none: let pinning do nothing."""
    import torch

    if not torch.accelerator.is_available():
        setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)  # noqa: B010


def refuse_odd_widths(model: Any) -> None:
    """Groups must divide every row; otherwise the engines' kernels cannot read them."""
    import torch

    for name, module in model.named_modules():
        odd = isinstance(module, torch.nn.Linear) and module.in_features % GROUP_SIZE
        if odd and name.rsplit(".", 1)[-1] not in IGNORED:
            raise ValueError(f"{name} is {module.in_features} wide, which groups of {GROUP_SIZE} do not divide")


def calibration_of(rows: list[list[int]]) -> dict[str, Any]:
    """What `oneshot` takes to run sequences through the model; nothing if there are none."""
    if not rows:
        return {}
    from datasets import Dataset

    sequences = Dataset.from_list([{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows])
    longest = max(len(row) for row in rows)
    return {"dataset": sequences, "num_calibration_samples": len(rows), "max_seq_length": longest, "batch_size": 1}


def load_decompressed(folder: str) -> Any:
    """The model of a compressed folder with plain float32 weights, as an engine's exact arithmetic would see them."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.quantization_config import CompressedTensorsConfig

    plain = CompressedTensorsConfig(run_compressed=False)
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=plain, local_files_only=True
    ).eval()


def perplexity(model: Any, texts: list[list[int]]) -> float:
    """exp of the mean negative log-likelihood over every token but each text's first, all texts together."""
    import torch

    total, count = 0.0, 0
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor([text], device=model.device)
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
            total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
            count += len(text) - 1
    return math.exp(total / count)


if __name__ == "__main__":
    main()
