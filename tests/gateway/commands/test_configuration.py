"""Settings come from file, environment and flags, in that order; a mistake is named where it was made."""

from pathlib import Path

import pytest

from gateway.commands.configuration import load_settings
from gateway.commands.up import with_model_flags
from gateway.errors import StartupFailed


def write(folder: Path, text: str) -> Path:
    path = folder / "alignway.toml"
    path.write_text(text)
    return path


def test_flags_win_over_the_environment_and_the_environment_over_the_file(tmp_path: Path) -> None:
    config = write(tmp_path, "[server]\nport = 1111\nworkers = 3\nhost = '127.0.0.1'\n")
    environment = {"ALIGNWAY_SERVER__PORT": "2222", "ALIGNWAY_SERVER__WORKERS": "4"}
    settings = load_settings(config, {"server.workers": 5, "server.host": None}, environment)
    assert (settings.server.port, settings.server.workers, settings.server.host) == (2222, 5, "127.0.0.1")


def test_models_and_their_engines_come_from_the_file(tmp_path: Path) -> None:
    config = write(
        tmp_path,
        "[[models]]\nalias = 'a'\nmodel = 'm'\nengine.args = ['--max-model-len', '512']\n[[models]]\nalias = 'b'\n",
    )
    first, second = load_settings(config, {}, {}).models
    assert (first.alias, first.model, first.engine.args) == ("a", "m", ("--max-model-len", "512"))
    assert second.alias == "b"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nprot = 1\n", ["server.prot", "no such setting"]),
        ("[server]\nport = 'many'\n", ["server.port"]),
        ("[server\n", ["cannot be read"]),
        ("[server]\nauth = 'off'\nhost = '0.0.0.0'\n", ["loopback alone"]),
        ("admin_key = 'short'\n", ["admin_key", "16"]),
        ("[[models]]\nalias = 'a'\n[[models]]\nalias = 'a'\n", ["same alias"]),
        ("[[models]]\nengine.kind = 'url'\n", ["engine.url"]),
        ("[[models]]\nengine.urls = ['http://a']\n", ["engine.url"]),
        ("[[models]]\nengine = {kind = 'url', url = 'http://a', urls = ['http://b']}\n", ["each address once"]),
        ("[[models]]\nengine = {kind = 'url', urls = ['http://a', 'http://a/']}\n", ["each address once"]),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(StartupFailed) as refused:
        load_settings(write(tmp_path, text), {}, {})
    for word in words:
        assert word in refused.value.message


def test_a_missing_file_that_was_named_is_an_error_and_a_missing_default_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(None, {}, {}).server.port == 8080
    with pytest.raises(StartupFailed, match="no settings file"):
        load_settings(tmp_path / "other.toml", {}, {})


def test_variables_that_only_start_alike_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(None, {}, {"ALIGNWAY_API_KEY": "sk-1", "ALIGNWAY_ADMIN_KEY": "a" * 16})
    assert settings.admin_key == "a" * 16


def test_a_misspelt_section_in_the_environment_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StartupFailed, match="servre"):
        load_settings(None, {}, {"ALIGNWAY_SERVRE__PORT": "1"})


def test_opentelemetrys_own_variable_counts_where_our_setting_is_not_given(tmp_path: Path) -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    bare = write(tmp_path, "[telemetry]\nrequest_log = 'all'\n")
    settings = load_settings(bare, {}, environment).telemetry
    assert (settings.otlp_endpoint, settings.request_log) == ("http://collector:4318", "all")
    assert load_settings(bare, {}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}).telemetry.otlp_endpoint is None
    ours = write(tmp_path, "[telemetry]\notlp_endpoint = 'http://ours:4318'\n")
    assert load_settings(ours, {}, environment).telemetry.otlp_endpoint == "http://ours:4318"


def test_an_engine_flag_is_a_kind_or_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(None, {}, {})
    by_url = with_model_flags(settings, engine="http://127.0.0.1:9000/", alias="mine").models[0]
    assert (by_url.engine.kind, by_url.engine.addresses, by_url.alias) == ("url", ("http://127.0.0.1:9000",), "mine")
    two = with_model_flags(settings, engine="http://127.0.0.1:9000,http://127.0.0.1:9001").models[0]
    assert two.engine.addresses == ("http://127.0.0.1:9000", "http://127.0.0.1:9001")
    assert with_model_flags(settings, engine="vllm").models[0].engine.addresses == ()
    with pytest.raises(StartupFailed, match=r"engine\.kind"):
        with_model_flags(settings, engine="tensorrt")
