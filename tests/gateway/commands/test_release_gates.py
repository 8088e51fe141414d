"""`alignway releases gates`: from the release's folder, else from the manifest, with what was calibrated."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from gateway.app import create_app
from gateway.commands.gates import app as gates_app
from gateway.commands.releases import app
from gateway.contracts.gate_report import REPORT_FILE, Calibration, LimitNoise
from gateway.errors import AlignwayError, InvalidRequest, NotFound
from gateway.settings import Settings
from gateway.storage import keys
from gateway.storage.database import Database
from gateway.storage.gate_calibrations import keep_calibration
from gateway.storage.tables import ReleaseRow
from tests.gateway.rollout.served import ALIAS, Served

ADMIN, PATH = "test-admin-key-0123456789", "/admin/v1/releases"
DROP = {"name": "drop", "level": "block", "value": 0.01, "limit": -0.05, "side": "below", "crossed": False}
GATE = {
    "gate": "holdout_preference",
    "verdict": "warn",
    "value": 0.01,
    "limit": 0.0,
    "reason": "12 pairs only",
    "n": 12,
}
ANSWER = {"prompt": "Why?", "candidate": "[bold]Because", "incumbent": "So", "changed_share": 1.0}
CALIBRATION = Calibration(
    alias=ALIAS, how="exchanged", subject="rel_a against rel_base", draws=400, holdout_pairs=12,
    made_at=datetime(2026, 11, 23, tzinfo=UTC),
    limits=(LimitNoise(gate="holdout_preference", name="drop", level="block", false_alarm_share=0.25,
                       smallest_effect=0.125),),
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, sqlite_template: Path) -> Path:
    """A data directory in which `rel_a` has a report in its folder, and `rel_b` only its manifest."""
    (tmp_path / "alignway.db").write_bytes(sqlite_template.read_bytes())

    async def prepare(database: Database) -> None:
        await Served(database).prepare()
        async with database.write() as session:
            for name in ("rel_a", "rel_b"):
                row = await session.get_one(ReleaseRow, name)
                row.manifest = row.manifest | {"gates": [GATE]}
            location = tmp_path / "store" / (await session.get_one(ReleaseRow, "rel_a")).location
        location.mkdir(parents=True)
        gates = [GATE | {"limits": [DROP]}]
        report = {
            "release": "rel_a", "name": "rel_a", "alias": ALIAS, "compared_with": "rel_base", "verdict": "warn",
            "created_at": "2026-11-23T00:00:00Z", "gates": gates, "changed_answers": [ANSWER],
        }  # fmt: skip
        (location / REPORT_FILE).write_text(json.dumps(report))

    inside(tmp_path, prepare)
    return tmp_path


def inside(folder: Path, work: Any) -> None:
    async def at_once() -> None:
        database = Database(f"sqlite+aiosqlite:///{folder / 'alignway.db'}")
        await work(database)
        await database.close()

    asyncio.run(at_once())


def run(folder: Path, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--data-dir", str(folder)])
    if isinstance(done.exception, AlignwayError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_report_is_shown_with_answers_and_later_with_what_was_calibrated(folder: Path) -> None:
    told = run(folder, "gates", "rel_a")
    for part in ("12 pairs only", "below -0.05", "alignway gates calibrate", "[bold]Because", '--reason "why'):
        assert part in told
    assert json.loads(run(folder, "gates", "rel_a", "--json"))["gates"][0]["limits"][0]["false_alarm_share"] is None

    async def calibrate(database: Database) -> None:
        async with database.write() as session:
            await keep_calibration(session, CALIBRATION, "key_1")

    inside(folder, calibrate)
    found = json.loads(run(folder, "gates", "rel_a", "--json"))
    limit = found["gates"][0]["limits"][0]
    assert (limit["false_alarm_share"], limit["smallest_effect"]) == (0.25, 0.125)
    assert found["changed_answers"] == [ANSWER]
    assert "25.0 %" in run(folder, "gates", "rel_a")


def test_without_a_folder_the_manifest_speaks_and_a_base_has_nothing_to_say(folder: Path) -> None:
    found = json.loads(run(folder, "gates", "rel_b", "--json"))
    assert (found["verdict"], found["gates"][0]["reason"]) == ("warn", "12 pairs only")
    with pytest.raises(NotFound, match="base model: no gate was asked"):
        run(folder, "gates", "rel_base")
    with pytest.raises(NotFound, match="alignway releases list"):
        run(folder, "gates", "rel_z")


def test_what_cannot_be_calibrated_says_what_to_do(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["--data-dir", str(folder)]
    refused = CliRunner().invoke(gates_app, ["calibrate", "--seeds", "1", *words])
    assert isinstance(refused.exception, InvalidRequest)
    assert "--seeds is 2 or more" in refused.exception.message
    assert CliRunner().invoke(gates_app, ["calibrate", *words]).exit_code == 1
    assert "let two be trained here: alignway gates calibrate --seeds 2" in capfd.readouterr().err


def test_the_route_says_the_same_to_admins(folder: Path) -> None:
    async def asked() -> tuple[httpx.Response, httpx.Response]:
        app = create_app(Settings.model_validate({"data_dir": folder}))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client,
        ):
            async with app.state.services.database.write() as session:
                project = await keys.ensure_project(session)
                await keys.create_key(session, project.id, "admin", ["admin"], ADMIN)
            client.headers["authorization"] = f"Bearer {ADMIN}"
            return await client.get(f"{PATH}/rel_a/gates"), await client.get(f"{PATH}/rel_base/gates")

    found, refused = asyncio.run(asked())
    shown = json.loads(run(folder, "gates", "rel_a", "--json"))
    assert found.json() == {"object": "release.gates"} | shown
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "gates_not_asked")
