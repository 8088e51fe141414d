"""`alignway evaluate`: measure a model, or an adapter beside incumbent and base: pairs, texts, prompts and tasks."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from alignment.commands.evaluation_table import print_evaluation
from alignment.commands.options import HubOption, JsonOption, ModelOption, find_model, print_json, refusal, told
from alignment.left_out import left_out

if TYPE_CHECKING:
    from alignment.jobs.contracts import EvaluateJob, EvaluateResult

_TASKS = "Benchmarks, through lm-evaluation-harness"


def _of_tasks(help_text: str, *names: str) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=_TASKS, show_default=False)


def evaluate(
    dataset: Annotated[Path, typer.Option("--dataset", help="Held-out preference pairs, JSON Lines.")],
    model: ModelOption = "smollm2-135m-instruct",
    adapter: Annotated[
        Path | None, typer.Option("--adapter", help="LoRA adapter to measure; default: the model itself.")
    ] = None,
    incumbent: Annotated[
        Path | None, typer.Option("--incumbent", help="Adapter to compare with; default: the model itself.")
    ] = None,
    hub: HubOption = "huggingface",
    max_length: Annotated[int, typer.Option(help="Longest prompt plus completion, in tokens.")] = 1024,
    texts: Annotated[
        str, typer.Option("--texts", help="Languages of the fixed texts: en, or en,zh. Default: by the pairs.")
    ] = "",
    generate: Annotated[
        int, typer.Option("--generate", min=0, help="Longest answer to each pinned prompt, in tokens; 0: none.")
    ] = 64,
    task: Annotated[
        list[str] | None, _of_tasks("mmlu, gsm8k, bbh, ceval or cmmlu; repeat it for more.", "--task")
    ] = None,
    tasks_dir: Annotated[
        Path | None, _of_tasks("Folder with the items, copied from the hub: docs/evaluation.md.", "--tasks-dir")
    ] = None,
    task_limit: Annotated[int | None, _of_tasks("Items of each subject. All.", "--task-limit")] = None,
    task_shots: Annotated[
        int | None, _of_tasks("Worked examples before each item. As lm-eval has it.", "--task-shots")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Candidate, incumbent and base on preference pairs, fixed texts, pinned prompts and benchmarks."""
    if incumbent is not None and adapter is None:
        raise refusal("--incumbent is compared with an adapter; give it too: --adapter DIR")
    with told():
        with left_out():
            from alignment.adapter.merge import adapter_rank
        from alignment.jobs.contracts import EvaluateJob

        for folder in (adapter, incumbent):
            if folder is not None:
                adapter_rank(folder)
        job = EvaluateJob(
            base_folder=find_model(model, hub),
            candidate=adapter,
            incumbent=incumbent,
            pairs_file=dataset,
            max_length_tokens=max_length,
            languages=_languages(texts),
            generate_tokens=generate,
            tasks=tuple(task or ()),
            tasks_folder=tasks_dir,
            task_limit=_at_least(task_limit, 1, "--task-limit"),
            task_shots=_at_least(task_shots, 0, "--task-shots"),
        )
        result = _measured(job, quiet=as_json)
    if as_json:
        print_json(result.model_dump(mode="json", exclude={"items", "compared"}))
    else:
        print_evaluation(result, has_incumbent=incumbent is not None)


def _measured(job: "EvaluateJob", quiet: bool) -> "EvaluateResult":
    with left_out():
        from transformers.utils.logging import disable_progress_bar

        from alignment.jobs.evaluation import evaluate as evaluate_job

    disable_progress_bar()  # of loading: --json shows no progress, and the bars here are ours
    with _bars(quiet) as bars:

        def watch(what: str, total: int) -> Any:
            bar = bars.add_task(what, total=total)
            return lambda done: bars.advance(bar, done)

        return evaluate_job(job, watch)


@contextlib.contextmanager
def _bars(quiet: bool) -> Iterator[Progress]:
    """A bar for each measurement, on standard error; none for programs."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # By hand, because what lm-eval writes to standard error is dropped while it works, and the bars must not be.
    console = Console(file=sys.stderr)
    is_shown = console.is_terminal and not quiet
    with Progress(
        *columns, console=console, disable=not is_shown, redirect_stderr=False, redirect_stdout=False
    ) as bars:
        yield bars


def _languages(texts: str) -> Any:
    found = tuple(part.strip() for part in texts.split(",") if part.strip())
    for language in found:
        if language not in ("en", "zh"):
            raise refusal(f"--texts knows en and zh, not {language}")
    return found


def _at_least(value: int | None, least: int, option: str) -> int | None:
    if value is not None and value < least:
        raise refusal(f"{option} is {least} or more, not {value}")
    return value
