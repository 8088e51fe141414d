"""`alignway lineage ID`: which votes trained an answer or a release, and what a vote trained."""

from typing import Annotated, Any

import typer

from gateway.commands.options import ConfigOption, DataDirOption, JsonOption, console, print_json
from gateway.commands.workplace import with_database
from gateway.contracts import ids
from gateway.datasets.lineage import Lineages, Page
from gateway.errors import InvalidRequest, NotFound
from gateway.settings import Settings
from gateway.storage.database import Database
from gateway.storage.lineage import find_vote


def lineage(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Of an answer, vote, release or data set.")],
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many votes are listed.")] = 20,
    after: Annotated[str | None, typer.Option(help="Begin behind the vote of this id.")] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what something was made from: chatcmpl-..., rel_..., ds_...; or, of a vote fb_..., what was made from it."""

    async def work(database: Database, settings: Settings) -> dict[str, Any]:
        return await find(Lineages(database, settings.store_path), database, id_, Page(limit, after))

    found = with_database(config, data_dir, work)
    if as_json:
        print_json(found)
    elif "feedback" in found:
        _tell_vote(found)
    else:
        _tell_votes(found)


async def find(lineages: Lineages, database: Database, id_: str, page: Page) -> dict[str, Any]:
    """The lineage of whatever has this id. Raises `NotFound`, or `InvalidRequest` for an id of another kind."""
    if id_.startswith(ids.FEEDBACK):
        async with database.read() as session:
            vote = await find_vote(session, id_)
        if vote is None:
            raise NotFound(f"There is no vote {id_!r}; it may have been erased.", param="id", code="feedback_not_found")
        return await lineages.of_vote(vote)
    if id_.startswith((ids.COMPLETION, ids.RESPONSE)):
        return await lineages.of_completion(id_, page)
    if id_.startswith(ids.RELEASE):
        return await lineages.of_release(id_, page)
    if id_.startswith(ids.DATASET):
        return await lineages.of_dataset(id_, page)
    known = ", ".join((ids.COMPLETION, ids.FEEDBACK, ids.RELEASE, ids.DATASET))
    raise InvalidRequest(f"{id_!r} has no lineage; give an id that begins with one of: {known}.", param="id")


def _tell_votes(found: dict[str, Any]) -> None:
    if "completion" in found:
        _say(f"Answer {found['completion']['id']} of {found['completion']['alias']}")
    for release in [found["release"]] if "release" in found else found["releases"]:
        _say(_release(release))
    dataset = found["dataset"]
    if dataset is None:
        _say("It was trained on no data set of this gateway.")
        return
    _say(f"Data set {dataset['id']}: votes to train on {dataset['votes']['train']}, to measure on "
         f"{dataset['votes']['holdout']}; taken back or changed since: {dataset['retracted_since']}")  # fmt: skip
    if dataset["read_from"] != dataset["id"]:
        left = f"an erasure left {dataset['read_from']} of it" if dataset["read_from"] else "its votes are not known"
        _say(f"  its files are gone; {left}")
    for part in dataset["sources"]:
        source = f" from {part['source']}" if part["source"] else ""
        _say(f"  {part['side']:8} {part['pairs']} pairs by {part['basis']}{source}")
    for vote in found["votes"]["data"]:
        _say(f"  {vote['side']:8} {vote['id']}")
    if found["votes"]["has_more"]:
        _say(f"Next: the same with --after {found['votes']['last_id']}")


def _tell_vote(found: dict[str, Any]) -> None:
    vote = found["feedback"]
    _say(f"Vote {vote['id']} ({vote['type']}, {vote['status']}, revision {vote['revision']}) of {vote['alias']}")
    for completion in found["completions"]:
        _say(f"  about {completion}")
    for pair in found["pairs"]:
        _say(f"  made {pair['id']}: {pair['state']}{': ' + pair['reason'] if pair['reason'] else ''}")
    for dataset in found["datasets"]:
        sides = ", ".join(f"{pair['id']} ({pair['side']})" for pair in dataset["pairs"])
        since = "; the vote was taken back or changed since" if dataset["retracted_since"] else ""
        _say(f"Data set {dataset['id']}: {sides}{since}")
        for release in dataset["releases"]:
            _say(f"  {_release(release)}")
    if not found["datasets"]:
        _say("It is in no data set whose files are there.")
    if found["unreadable_datasets"]:
        _say(f"Files are gone, so it is not known of: {', '.join(found['unreadable_datasets'])}")


def _release(release: dict[str, Any]) -> str:
    serving = f"serves {', '.join(release['serving'])}" if release["serving"] else "does not serve"
    canary = f", canary of {', '.join(release['canary'])}" if release["canary"] else ""
    held = f", held by {', '.join(release['replicas'])}" if release["replicas"] else ""
    tainted = ", trained on something that was erased since" if release["tainted"] else ""
    return f"Release {release['name']} ({release['id']}, {release['state']}): {serving}{canary}{held}{tainted}"


def _say(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
