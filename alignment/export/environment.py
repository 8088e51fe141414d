"""Find the export environment and let it work: llm-compressor's pins clash with the engines', so it lives alone."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from alignment.errors import ExportFailed
from alignment.export.order import QuantizeOrder, QuantizeReport

_PROGRAM = Path(__file__).with_name("quantize_program.py")
_NAME = ".venv-export"
_SHOWN_LINES = 12


def find_python(wanted: Path | None) -> Path:
    """The interpreter that has llm-compressor: the one named, or that of `.venv-export` beside this environment.

    Raises `ExportFailed`, with what to type, if there is none.
    """
    python = wanted or Path(sys.prefix).parent / _NAME / "bin" / "python"
    if os.access(python, os.X_OK) and python.is_file():
        return python
    if wanted:
        raise ExportFailed(
            f"{wanted} is no Python to run; give --export-python the interpreter that has llm-compressor"
        )
    raise ExportFailed(
        "quantising needs llm-compressor, in an environment of its own. Make it once, where Alignway's Makefile is:\n"
        "  make export-env\n"
        "or anywhere:\n"
        f"  python3 -m venv {_NAME} && {_NAME}/bin/pip install llmcompressor\n"
        f"and add --export-python {_NAME}/bin/python (or set ALIGNWAY_EXPORT_PYTHON). "
        "--quantize none needs no such environment"
    )


def quantize(python: Path, order: QuantizeOrder) -> QuantizeReport:
    """Carry out the order in a process of that Python. Raises `ExportFailed` with its last words if it fails."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.run(
            [str(python), "-I", str(_PROGRAM)],
            input=order.model_dump_json().encode(),
            stdout=subprocess.PIPE,
            stderr=log,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"},
            check=False,
        )
        log.seek(0)
        said = log.read().decode(errors="replace")
    answer = _answer(process.stdout)
    if "report" in answer:
        return QuantizeReport.model_validate(answer["report"])
    raise ExportFailed(_explain(python, process.returncode, answer.get("failure"), said))


def _answer(line: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _explain(python: Path, returncode: int, failure: str | None, said: str) -> str:
    if failure and failure.startswith("ModuleNotFoundError"):
        return f"{python} lacks a package ({failure}); make the environment anew with `make export-env`"
    if failure:
        return f"llm-compressor could not quantise the model: {failure}"
    if returncode == -signal.SIGKILL:
        return (
            "the export process was killed, most likely because the machine ran out of memory: it needs the whole "
            "model in float32, 4 bytes a parameter, about twice over"
        )
    last = "\n  ".join(said.strip().splitlines()[-_SHOWN_LINES:])
    return f"the export process ended with status {returncode}; its last words:\n  {last}"
