"""`alignway dataset build|list|show`: freeze the pairs that training would use, or look at what was frozen."""

from typing import Annotated, Any

import typer
from rich.table import Table

from gateway.annotation.agreement_report import agreement_of
from gateway.commands.options import ConfigOption, DataDirOption, JsonOption, console, copied, print_json, progress
from gateway.commands.workplace import with_database
from gateway.contracts.training import MINIMUM_PAIRS_BY_HAND
from gateway.datasets.build import alias_to_build, build, preview, show
from gateway.datasets.card import card_markdown, summary
from gateway.redaction.configured import training_redaction
from gateway.routes.views import dataset_view
from gateway.settings import Settings
from gateway.storage.database import Database
from gateway.storage.datasets import list_datasets

app = typer.Typer(help="Data sets: build (freeze) one, list and show them.", no_args_is_help=True)

AliasOption = Annotated[str | None, typer.Option("--alias", help="Which alias; may be left out where there is one.")]


@app.command("build")
def build_(
    alias: AliasOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would hold, and why no more.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Freeze the pairs that are eligible now, under a new id."""

    async def work(database: Database, settings: Settings) -> dict[str, Any]:
        name = await alias_to_build(database, alias)
        redact = training_redaction(settings.privacy)
        with progress.status("Going through the votes"):
            if dry_run:
                return await preview(database, name, settings.datasets, redact)
            extra = await agreement_of(database, name)
            return await build(database, settings.store_path, name, settings.datasets, redact, extra)

    card = with_database(config, data_dir, work)
    if as_json:
        print_json(card)
        return
    _tell(card)
    if not dry_run:
        console.print(f"Frozen as {card['id']}.\nNext: alignway dataset show {card['id']}")
    elif card["would_start"]:
        console.print(f"Next: alignway dataset build --alias {card['alias']}, or start a training run")
    else:
        console.print(
            f"A run needs {MINIMUM_PAIRS_BY_HAND} pairs. Collect more votes, or import pairs: alignway feedback import"
        )


@app.command("list")
def list_(
    alias: AliasOption = None, config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """List data sets, newest first."""

    async def work(database: Database, _: Settings) -> list[dict[str, Any]]:
        async with database.read() as session:
            return [dataset_view(row) for row in await list_datasets(session, alias)]

    found = with_database(config, data_dir, work)
    if as_json:
        print_json(found)
        return
    table = Table(*copied("id", "alias"), "train", "holdout", "frozen")
    for one in found:
        table.add_row(one["id"], one["alias"], str(one["train_pairs"]), str(one["holdout_pairs"]), one["frozen_at"])
    console.print(table)
    if not found:
        console.print("Next: alignway dataset build --dry-run")


@app.command("show")
def show_(
    dataset_id: Annotated[str, typer.Argument(help="Its id, ds_...")],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the card of a data set, and check its files against it: the exit status is 1 if they were changed."""

    async def work(database: Database, settings: Settings) -> dict[str, Any]:
        return await show(database, settings.store_path, dataset_id)

    card = with_database(config, data_dir, work)
    if as_json:
        print_json(card)
    else:
        console.print(card_markdown(card), markup=False)
        if card.get("retracted_since"):
            console.print(f"{card['retracted_since']} of its votes were taken back or changed since; build a new one.")
        if card["damaged"]:
            console.print(f"Do not train on it: {card['damaged']}.", markup=False)
    if card["damaged"]:
        raise typer.Exit(1)


def _tell(card: dict[str, Any]) -> None:
    console.print(summary(card), markup=False)
    table = Table("rule", "pairs struck")
    for rule, count in (card["counts"]["excluded"] | card["counts"]["dropped"]).items():
        table.add_row(rule, f"{count:,}")
    if table.row_count:
        console.print(table)
    holdout = card["holdout"]
    if holdout["pairs"]:
        console.print(
            f"A holdout of {holdout['pairs']} pairs measures accuracy to within {holdout['half_width_95']:.1%} "
            f"(95 %), and shows a gain of {holdout['detectable_gain']:.1%} in four of five runs."
        )
    if answers := card.get("thumbs", {}).get("answers"):
        console.print(f"And {answers:,} single answers with a thumb, which only `kto` learns from.", markup=False)
    for warning in card["warnings"]:
        console.print(f"Warning: {warning}", markup=False)
    for one in card["alarms"]["phrases"]:
        console.print(f"Alarm: {one['phrase']!r} marks one side (z = {one['z']:+.1f})", markup=False)
