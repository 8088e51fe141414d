"""Settings of the aligner: when to train by itself, and where."""

import re

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from gateway.calendar.cron import Calendar, Interval, cron, interval_seconds
from gateway.calendar.wall_clock import zone_named
from gateway.calendar.window import Window, window
from gateway.sections.section import Section

BORROW, AUTO = "borrow", "auto"
_DEVICE = re.compile(r"cpu|(cuda:)?[0-9]+")


class AlignerSettings(Section):
    """When to train by itself, and where."""

    enabled: bool = True
    """Whether `alignway up` starts an aligner."""
    every: str | None = Field(default=None, pattern=r"^[1-9][0-9]*[smhd]$")
    """Train at this interval, such as `12h` or `7d`, counted from the last run; default: only when asked."""
    schedule: str | None = None
    """Or train at these times: a cron expression of five fields, such as `30 2 * * mon-fri`, or `@daily`."""
    time_zone: str = "UTC"
    """Of `schedule` and `maintenance_window`: an IANA name, such as `Europe/Berlin`."""
    min_new_pairs: PositiveInt | None = None
    """Train when this many pairs became eligible since the last run; default: only when asked."""
    auto_min_train_pairs: PositiveInt = 200
    """An automatic run waits until a data set would hold this many pairs to train on (`dataset build --dry-run`)."""
    auto_min_holdout_pairs: PositiveInt = 50
    """An automatic run waits until a data set would hold this many pairs to measure on."""
    threads: NonNegativeInt = 0
    """CPU threads of a training run; 0: all cores."""
    devices: str = AUTO
    """`auto`: where most memory is free, and no more than is free. `cuda:6,7`: on one of these GPUs (as nvidia-smi
    numbers them), or `cpu`. `borrow`: on the device of one of the alias's engines, which is drained, stopped, and
    started again afterwards."""
    maintenance_window: str | None = None
    """When the only engine of an alias may be borrowed: days and hours, such as `sat,sun 01:00-05:00`. Without it, only
    a run that was asked for with `--allow-downtime` borrows it."""

    @model_validator(mode="after")
    def _can_be_read(self) -> "AlignerSettings":
        """What cannot be is refused at start."""
        if self.every is not None and self.schedule is not None:
            raise ValueError("aligner.every and aligner.schedule both say when to train; leave one of them out")
        for setting, read in (
            ("time_zone", lambda: zone_named(self.time_zone)),
            ("schedule", lambda: self.calendar),
            ("maintenance_window", lambda: self.window),
        ):
            try:
                read()
            except ValueError as error:
                raise ValueError(f"aligner.{setting}: {error}") from error
        if self.devices not in (AUTO, BORROW) and not all(map(_DEVICE.fullmatch, self.device_names)):
            raise ValueError(f'aligner.devices = "{self.devices}" is none of auto, borrow, cpu, and GPUs as "cuda:6,7"')
        return self

    @property
    def calendar(self) -> Calendar | None:
        """When a run is planned; None: not by the clock."""
        if self.schedule is not None:
            return cron(self.schedule, zone_named(self.time_zone))
        return None if self.every is None else Interval(interval_seconds(self.every))

    @property
    def calendar_text(self) -> str | None:
        """The same for people, and to notice that it was changed."""
        return f"{self.schedule} {self.time_zone}" if self.schedule is not None else self.every

    @property
    def window(self) -> Window | None:
        """The maintenance window."""
        if self.maintenance_window is None:
            return None
        return window(self.maintenance_window, zone_named(self.time_zone))

    @property
    def device_names(self) -> tuple[str, ...]:
        """The devices that are named, as `cpu` and `cuda:6`; empty with `auto` and `borrow`."""
        if self.devices in (AUTO, BORROW):
            return ()
        names = self.devices.replace(" ", "").split(",")
        return tuple(f"cuda:{name}" if name.isdigit() else name for name in names)
