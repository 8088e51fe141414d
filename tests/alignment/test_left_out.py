"""What training processes start without."""

import subprocess
import sys

CODE = """
import sys
from alignment.left_out import LEFT_OUT, left_out
with left_out():
    from alignment.jobs import evaluation, training, work
print([name for name in LEFT_OUT if name in sys.modules])
import sklearn.metrics
print(sklearn.metrics.accuracy_score([1, 0], [1, 1]))
"""


def test_training_imports_nothing_it_never_uses_and_what_does_use_it_still_can() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120)
    assert done.stdout.split("\n")[:2] == ["[]", "0.5"], done.stderr[-2000:]
