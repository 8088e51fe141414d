"""The list of peers is one that can be installed and started, and says what is installed."""

import json

import pytest

from benchmarks.gateway.peers import Peer, fill, install, load_peers, start_peer
from benchmarks.gateway.place import Place
from benchmarks.gateway.processes import Cores


def test_the_list_names_each_peer_once_with_pinned_versions():
    peers = load_peers()
    assert [peer.name for peer in peers] == ["nginx", "vllm-router", "sglang-router", "smg", "portkey", "litellm"]
    assert all("==" in package for peer in peers for package in peer.pip)
    assert {peer.name for peer in peers if peer.is_router} == {"vllm-router", "sglang-router", "smg"}
    assert all(peer.note for peer in peers)


def test_placeholders_are_filled_and_other_braces_stay():
    assert fill("events { listen {port}; } {unknown}", {"port": "80"}) == "events { listen 80; } {unknown}"


def test_what_cannot_be_installed_is_skipped_with_the_reason(tmp_path):
    peer = Peer("absent", ["x"], program="no-such-gateway", apt="no-such-package-of-debian")
    assert install(peer, tmp_path)
    assert not peer.is_installed(tmp_path)


def test_a_version_is_read_from_what_was_installed(tmp_path):
    peer = Peer("some", ["x"], pip=["some[proxy]==1.2.3"])
    peer.home(tmp_path).mkdir()
    (peer.home(tmp_path) / "installed.json").write_text(json.dumps(peer.pip))
    assert peer.is_installed(tmp_path)
    assert peer.version(tmp_path) == "1.2.3"


@pytest.mark.parametrize("key", ["", "sk-x"])
def test_a_peer_starts_with_its_files_headers_and_environment(tmp_path, key):
    peer = Peer(
        "some",
        ["sh", "-c", "echo $TO {port} > {home}/said"],
        files={"conf": "to {upstream_address} as {model}"},
        environment={"TO": "{upstream}"},
        headers={"x-to": "{upstream}/v1"},
        api_key=key,
    )
    peer.home(tmp_path).mkdir()
    with start_peer(peer, Place(tmp_path, Cores()), "http://127.0.0.1:9", "mock") as started:
        assert started.process is not None
        started.process.wait(10)
    assert (peer.home(tmp_path) / "conf").read_text() == "to 127.0.0.1:9 as mock"
    assert (peer.home(tmp_path) / "said").read_text() == f"http://127.0.0.1:9 {started.endpoint.port}\n"
    assert started.endpoint.headers.get("authorization") == (f"Bearer {key}" if key else None)
    assert started.endpoint.headers["x-to"] == "http://127.0.0.1:9/v1"
