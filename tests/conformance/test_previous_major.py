"""The openai SDK before its newest major keeps every promise that the newest one keeps."""

import re
import subprocess

import openai

from tests.conformance.conftest import CLIENT_SECONDS, ROOT, Served, python_of

LEAST = 100
"""Tests that must have run; a suite that was not found would pass as well."""


def test_the_previous_major_passes_the_newest_ones_tests(served: Served) -> None:
    python = python_of("openai-2")
    version = subprocess.check_output([python, "-c", "import openai; print(openai.__version__)"], text=True)
    assert int(version.split(".")[0]) == int(openai.__version__.split(".")[0]) - 1
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/conformance/openai_python"]
    done = subprocess.run(
        command, cwd=ROOT, env=served.environment, capture_output=True, text=True, timeout=2 * CLIENT_SECONDS
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= LEAST
    assert "skipped" not in done.stdout
