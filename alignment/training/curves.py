"""The curves of a run as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

CURVES_FILE = "training.png"
_PANELS = (
    ("loss", "nll"),
    ("log_odds_ratio",),
    ("rewards/chosen", "rewards/rejected", "rewards/margin", "rewards/answer"),
    ("rewards/accuracy",),
    ("kl",),
    ("grad_norm",),
    ("learning_rate",),
    ("tokens_per_second",),
)


def plot_curves(curve: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw what the steps recorded, a panel for figures of a kind; the same curve gives the same bytes."""
    # Imported late: it is heavy, and only a finished run needs it. The figure is made without pyplot: no global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [shown for names in _PANELS if (shown := [name for name in names if name in curve[0]])]
    figure = Figure(figsize=(7, 1.2 + 1.7 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    steps = [point["step"] for point in curve]
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, names in zip(rows, panels, strict=True):
        for name in names:
            axes.plot(steps, [point.get(name) for point in curve], label=name)
        axes.legend(loc="best", fontsize=8)
        axes.grid(alpha=0.3)
    rows[-1].set_xlabel("step")
    # No time and no version in the file.
    figure.savefig(path, dpi=100, metadata={"Software": None})
