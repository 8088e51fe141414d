"""The admin routes of releases: what is refused before anything is begun."""

from pathlib import Path

import httpx

from gateway.app import create_app
from gateway.settings import Settings
from gateway.storage import keys
from gateway.storage.database import Database

ADMIN = "sk-admin-0000000000000"


async def test_a_promotion_on_a_full_disk_says_how_much_is_needed(tmp_path: Path, sqlite_template: Path) -> None:
    (tmp_path / "alignway.db").write_bytes(sqlite_template.read_bytes())
    settings = Settings.model_validate({"data_dir": tmp_path, "releases": {"min_free_disk_mib": 1 << 40}})
    database = Database(settings.database_url)
    async with database.write() as session:
        project = await keys.ensure_project(session)
        await keys.create_key(session, project.id, "admin", ["promote"], ADMIN)
    await database.close()
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client,
    ):
        answer = await client.post(
            "/admin/v1/aliases/assistant/promote",
            json={"release": "rel_1"},
            headers={"authorization": f"Bearer {ADMIN}"},
        )
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (507, "not_enough_disk")
    assert "1099511627776 MiB are needed" in error["message"]
    assert "alignway releases prune" in error["message"]
