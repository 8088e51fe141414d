"""Put a LoRA adapter on a model, and write it down so that anybody can load it onto the same base."""

from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model

from alignment.files import make_readable
from gateway.contracts.release import BaseModelRef
from gateway.contracts.training import TrainingOptions


def attach_adapter(model: Any, base: BaseModelRef, options: TrainingOptions) -> PeftModel:
    """The model with a fresh adapter, by default on every linear layer but the output embeddings; only it trains.

    The adapter begins as the identity: its B matrices are 0. Its A matrices follow torch's global seed.
    """
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=options.targets if options.targets == "all-linear" else list(options.targets),
        use_rslora=options.rslora,
        use_dora=options.dora,
        bias="none",
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, config)
    name_base(adapted, base)
    return adapted


def name_base(adapted: PeftModel, base: BaseModelRef) -> None:
    """Make the adapter name its base by public id and revision, not by the folder it was loaded from here."""
    for config in adapted.peft_config.values():
        config.base_model_name_or_path = base.model
        config.revision = base.revision


def save_adapter(adapted: PeftModel, base: BaseModelRef, folder: Path) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`; `PeftModel.from_pretrained` opens the folder."""
    name_base(adapted, base)
    # Peft would look the base's vocabulary up by name, perhaps over the network; the output embeddings are not ours.
    adapted.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty card; the release has a card of its own
    make_readable(folder)
