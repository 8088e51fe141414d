"""What can go wrong while aligning. Each text says what happened and what to do; the command line prints it as is."""


class AlignmentError(Exception):
    """Any error that a user of the trainer may meet."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadPairs(AlignmentError):
    """A file of pairs that cannot be read as it stands, with the line and the reason."""


class NotEnoughPairs(AlignmentError):
    """Too few pairs to train or to measure on."""


class BaseModelMissing(AlignmentError):
    """A model that is not where it was looked for, or that cannot be fetched from here."""


class UnfitModel(AlignmentError):
    """A model that loads, but lacks what alignment needs of it."""


class MergeNotExact(AlignmentError):
    """Merged weights that do not say what base plus adapter say."""


class AdapterUnfit(AlignmentError):
    """A trained adapter that no engine agent would load."""


class ExportFailed(AlignmentError):
    """A model that was not exported; nothing of it is left behind."""


class FolderInUse(AlignmentError):
    """Another process trains in the folder."""


class CheckpointDamaged(AlignmentError):
    """Checkpoints that are not what was written, and none that is; the adapter they held is lost."""


class TrainingDiverged(AlignmentError):
    """The loss became infinite or not a number; nothing trained since can be used."""


class OutOfMemory(AlignmentError):
    """Memory runs out even with the smallest batch."""


class TrainingStopped(AlignmentError):
    """Training was asked to stop and did, between two steps, behind a checkpoint."""


class JobFailed(AlignmentError):
    """The training process died or answered nonsense."""


class DiskTooFull(AlignmentError):
    """Not enough room on a disk; nothing half-written is taken for whole."""


class RunLost(AlignmentError):
    """The run is no longer ours: its lease ran out and somebody else may hold it."""


class TasksMissing(AlignmentError):
    """A benchmark that cannot run: its items are not where they were looked for, or the package is not installed."""
