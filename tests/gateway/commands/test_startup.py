"""`alignway up` that cannot start says why and what to do, and leaves nothing running."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest


def alignway(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments], capture_output=True, text=True, cwd=cwd, timeout=120, check=False
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"x")
    return folder


def test_a_port_in_use_is_said_with_the_flag_that_helps(tmp_path: Path, model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = alignway("up", "--port", port, "--model", str(model), "--engine", "scripted", cwd=tmp_path)
    assert done.returncode == 1
    assert "port_in_use" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_model_is_said_with_what_to_give_instead(tmp_path: Path) -> None:
    done = alignway("up", "--port", "0", "--model", str(tmp_path / "nowhere"), cwd=tmp_path)
    assert done.returncode == 1
    assert "nowhere" in done.stderr
    assert "smollm2-135m-instruct" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_flags_and_files_end_with_a_message_and_exit_status_1(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[server]\nprot = 1\n")
    for arguments in (("up", "--engine", "tensorrt"), ("config", "check", "--config", "bad.toml")):
        done = alignway(*arguments, cwd=tmp_path)
        assert done.returncode == 1
        assert "invalid_settings" in done.stderr
        assert "Traceback" not in done.stderr


def test_keys_are_made_listed_revoked_and_audited_as_json(tmp_path: Path) -> None:
    made = json.loads(alignway("keys", "create", "--name", "ci", "--json", cwd=tmp_path).stdout)
    assert set(made) == {"id", "key", "scopes"}
    assert made["scopes"] == ["inference", "feedback", "feedback:write_text", "feedback:read"]
    listed = json.loads(alignway("keys", "list", "--json", cwd=tmp_path).stdout)
    assert [key["id"] for key in listed] == [made["id"]]
    assert made["key"] not in json.dumps(listed)
    assert made["id"] in alignway("keys", "list", cwd=tmp_path).stdout  # whole, to be copied
    assert alignway("keys", "revoke", made["id"], "--json", cwd=tmp_path).returncode == 0
    assert json.loads(alignway("keys", "list", "--json", cwd=tmp_path).stdout)[0]["revoked_at"] is not None
    told = json.loads(alignway("audit", "--json", cwd=tmp_path).stdout)
    assert [(entry["action"], entry["subject"], entry["actor"]) for entry in told] == [
        ("key.revoked", made["id"], "command line"),
        ("key.created", made["id"], "command line"),
    ]
    assert "key.revoked" in alignway("audit", cwd=tmp_path).stdout
    unknown = alignway("keys", "create", "--scopes", "everything", cwd=tmp_path)
    assert unknown.returncode == 1
    assert "inference" in unknown.stderr
