"""What the training process is asked for and answers. Light: importing it loads neither torch nor transformers."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from alignment.adapter.agreement import MergeCheck
from alignment.gate.items import Items
from alignment.training.checkpoints import CHECKPOINT_SECONDS
from gateway.contracts.case import Case
from gateway.contracts.message import Message
from gateway.contracts.release import BaseModelRef, Interval
from gateway.contracts.training import TrainingOptions

MeasuredValue = float | Interval


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class TrainJob(_Record):
    """Train an adapter for `base_folder` on the pairs of a file; everything lands in `folder`."""

    kind: Literal["train"] = "train"
    base_folder: Path
    base: BaseModelRef
    options: TrainingOptions
    pairs_file: Path
    holdout_file: Path | None = None
    """Rows that are not trained on, for the curve and for stopping early."""
    folder: Path
    checkpoint_seconds: float = Field(default=CHECKPOINT_SECONDS, ge=0)
    """A kill costs at most so much work, and a step; at 0 every step is saved."""
    shows_progress: bool = False
    """A bar or lines for people, on standard error."""


class TrainResult(_Record):
    """A trained adapter, and how it came about."""

    adapter: Path
    pairs: int
    dropped: dict[str, int]
    """Pairs that could not be used, by reason."""
    shortened: int
    """Pairs that lost their oldest turns to fit."""
    steps: int
    learning_rate: float
    reasons: tuple[str, ...]
    """Why the numbers of the run are what they are."""
    last: dict[str, float]
    """The metrics of the last step."""
    best: dict[str, float] | None = None
    """The best evaluation on held-out rows; its adapter is the one that was kept."""
    seconds: float
    """Of the last process."""
    steps_made: int = 0
    """By it."""
    device: str = "cpu"
    peak_memory_bytes: int = 0
    """Of it, on the device."""


class EvaluateJob(_Record):
    """Measure a candidate, and what it is compared with: on the pairs of a file, on fixed texts, and on what is asked.

    What takes minutes is off by default: answers to pinned prompts, and benchmarks. A cycle asks for the answers.
    """

    kind: Literal["evaluate"] = "evaluate"
    base_folder: Path
    candidate: Path | None
    """Its adapter; None measures the base model itself."""
    incumbent: Path | None
    """The adapter it is compared with; None compares with the base model."""
    pairs_file: Path | None
    """None if nothing was held out."""
    max_length_tokens: int
    languages: tuple[Literal["en", "zh"], ...] = ()
    """Fixed texts and prompts beside those in English and those in the language of the pairs."""
    generate_tokens: int = Field(default=0, ge=0)
    """Longest answer to each of the pinned prompts; 0 writes none."""
    measures_drift: bool = False
    """Also the KL to the base on the candidate's own answers, and which share of them is changed."""
    compared_prompts: int = Field(default=0, ge=0)
    """So many held-out prompts are answered, in up to `compared_tokens`, for a judge to compare."""
    compared_tokens: int = Field(default=256, ge=1)
    safety_tokens: int = Field(default=0, ge=0)
    """Longest answer to each of the prompts that should be refused, or only look so; 0 writes none."""
    cases: tuple[Case, ...] = ()
    """Questions of the operator's own, answered greedily in up to `case_tokens`."""
    case_tokens: int = Field(default=64, ge=1)
    tasks: tuple[str, ...] = ()
    """Benchmarks by name; see `alignment/gate/task_files.py`. None in a cycle."""
    tasks_folder: Path | None = None
    """Where their items lie."""
    task_limit: int | None = Field(default=None, ge=1)
    """Items of each subject; None takes all."""
    task_shots: int | None = Field(default=None, ge=0)
    """Worked examples before each item; None leaves it to the benchmark's own configuration."""


class CaseReport(_Record):
    """One of the operator's questions: what was answered, and what is wrong with it."""

    id: str
    severity: Literal["block", "warn"]
    answer: str
    failures: tuple[str, ...]
    answer_before: str
    """By the incumbent; by the base where nothing else serves."""
    failures_before: tuple[str, ...]


class ComparedAnswers(_Record):
    """Two answers to one held-out prompt."""

    prompt: tuple[Message, ...]
    candidate: str
    incumbent: str
    """Of the base where nothing else serves."""


class TaskTest(_Record):
    """The candidate against another model on the same items, each answered right or wrong: McNemar's test, exact."""

    won: int
    """Items that only the candidate got right."""
    lost: int
    """Items that only the other got right."""
    p_value: float


class TaskReport(_Record):
    """What a benchmark was measured on; its accuracies are metrics, `task_mmlu` and so on."""

    items: int
    subjects: int
    missing: tuple[str, ...]
    """Subjects of the benchmark whose items are not there, so that it is not the whole benchmark."""
    against_incumbent: TaskTest | None = None
    """None without an incumbent."""
    against_base: TaskTest | None = None
    """None if the base itself was measured."""


class EvaluateResult(_Record):
    """What was measured."""

    metrics: dict[str, MeasuredValue]
    """By name, for the candidate; with `_incumbent` (the base where nothing else serves) and `_base` for the others;
    with `_difference`, candidate minus incumbent, and `_difference_base` where that is not the same. Names are in
    docs/evaluation.md."""
    pairs: int
    prompts: int
    matched_pairs: int = 0
    """Pairs whose completions are of one length."""
    answers: int = 0
    """Pinned prompts that were answered."""
    dropped: dict[str, int]
    languages: tuple[Literal["en", "zh"], ...] = ("en",)
    """Of the fixed texts and prompts."""
    tasks: dict[str, TaskReport] = {}
    cases: tuple[CaseReport, ...] = ()
    compared: tuple[ComparedAnswers, ...] = ()
    items: Items = Items()
    """Pair by pair, text by text, answer by answer."""


class MergeJob(_Record):
    """Fold an adapter into full weights."""

    kind: Literal["merge"] = "merge"
    base_folder: Path
    adapter: Path
    merged_folder: Path
    derive: "DeriveOrder | None" = None
    """Write the adapters between these merged weights and the incumbent's, too."""


class DeriveOrder(_Record):
    """Which adapters to derive, and where to."""

    incumbent: Path | None
    """The incumbent's adapter; None: the base serves, over which the candidate's own adapter is the difference."""
    difference_folder: Path
    reverse_folder: Path


class MergeResult(_Record):
    """The merged weights are written, and say what base plus adapter say."""

    rank: int
    size_bytes: int
    check: MergeCheck
    difference_rank: int | None = None
    """None: no difference adapter was written."""
    reverse_rank: int | None = None
    not_derived: str | None = None
    """Why the adapters that were ordered could not be derived."""


Job = Annotated[TrainJob | EvaluateJob | MergeJob, Field(discriminator="kind")]


class Order(_Record):
    """One line to the training process: a job, or the wish that it stop between two steps."""

    job: Job | None = None
    stop: bool = False


class Failure(_Record):
    """Why a job ended without a result."""

    type: str
    """The class of the error; `TrainingStopped` if it was asked to stop."""
    message: str


class Report(_Record):
    """One line from the training process: exactly one of the four."""

    progress: dict[str, float] | None = None
    checkpoint: int | None = None
    """The step after which a checkpoint was written."""
    result: TrainResult | EvaluateResult | MergeResult | None = Field(default=None, union_mode="smart")
    failure: Failure | None = None
