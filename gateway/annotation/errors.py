"""What can go wrong between an annotator and the queue."""

from gateway.errors import Conflict, InvalidRequest, NotFound


class QueueEmpty(NotFound):
    """Nothing to judge for this annotator."""

    code = "queue_empty"

    def __init__(self) -> None:
        super().__init__(
            "There is nothing for you to judge right now. Claim again later; "
            "GET /v1/annotation/queue says how much waits, for you or for others."
        )


class TaskNotFound(NotFound):
    """Unknown here, or of another project."""

    code, param = "task_not_found", "task_id"

    def __init__(self, task_id: str) -> None:
        super().__init__(
            f"There is no task {task_id!r} in this project. POST /v1/annotation/claim hands out the next one."
        )


class TaskNotHeld(Conflict):
    """The caller does not hold the task (any more)."""

    code, param = "task_not_held", "task_id"

    def __init__(self) -> None:
        super().__init__(
            "You do not hold this task: its lease ran out and somebody else took it, or you released or never claimed "
            "it. Nothing was stored. POST /v1/annotation/claim hands out another one."
        )


class AlreadySubmitted(Conflict):
    """Another verdict of the same annotator stands."""

    code, param = "already_submitted", "verdict"

    def __init__(self) -> None:
        super().__init__(
            "You judged this task otherwise before. To change your mind: POST /v1/annotation/undo takes your last "
            "verdict back and hands you its task again."
        )


class NothingToUndo(NotFound):
    """The annotator gave no verdict that stands."""

    code = "nothing_to_undo"

    def __init__(self) -> None:
        super().__init__("You gave no verdict yet that could be undone.")


class WrongVerdict(InvalidRequest):
    """Not an answer to what the task asks."""

    code, param = "wrong_verdict", "verdict"

    def __init__(self, verdict: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"This task does not take the verdict `{verdict}`, but: {', '.join(allowed)}.")


class NoTextToCorrect(InvalidRequest):
    """One of the sides was written by a person."""

    code, param = "nothing_to_correct", "correction"

    def __init__(self) -> None:
        super().__init__("This task is about a correction itself and takes no further one; send the verdict alone.")


class GoldNotFound(NotFound):
    """Unknown here, or of another project."""

    code, param = "gold_not_found", "gold_id"

    def __init__(self, gold_id: str) -> None:
        super().__init__(
            f"There is no gold item {gold_id!r} in this project. GET /admin/v1/annotation/gold lists them."
        )
