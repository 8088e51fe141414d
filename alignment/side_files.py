"""What a model folder holds besides its weights and its configuration."""

import json
import shutil
from pathlib import Path

_SIDE_FILES = (
    "generation_config.json",
    "chat_template.jinja",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)


def copy_side_files(from_folder: Path, to_folder: Path) -> None:
    """Copy tokenizer, chat template and generation settings, whichever there are, byte for byte."""
    for name in _SIDE_FILES:
        if (from_folder / name).is_file():
            shutil.copyfile(from_folder / name, to_folder / name)


def forget_folder(config_file: Path) -> None:
    """Old configurations name the folder they were loaded from; a release names no path of one machine."""
    config = json.loads(config_file.read_text(encoding="utf-8"))
    if config.pop("_name_or_path", None) is not None:
        config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
