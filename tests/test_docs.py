"""Pages that are written from the code say what the code does."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("script", ["make_settings.py", "make_fields.py"])
def test_a_generated_page_is_up_to_date(script: str) -> None:
    checked = subprocess.run([sys.executable, f"docs/{script}", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
