"""vLLM's control calls and command line, without vLLM: against the scripted engine, and against servers that fail."""

import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from gateway.contracts.ids import WEIGHTS_NAME, engine_name
from gateway.engines import vllm
from gateway.engines.vllm import CPU_LAUNCHER, VllmControl, VllmInstall, VllmLauncher, allowed_rank, find_vllm
from gateway.errors import StartupFailed, SwapFailed, UpstreamError
from gateway.settings import EngineSettings
from tests.gateway.engines.conftest import Served, serve, weights

RELEASE = "rel_01abc"


async def test_adapter_is_loaded_and_forgotten_twice_without_complaint(served: Served, tmp_path: Path) -> None:
    control = VllmControl(served.url, 16)
    folder = weights(tmp_path / "adapter", "bold")
    await control.load_adapter(RELEASE, folder)
    await control.load_adapter(RELEASE, folder)
    await control.probe(engine_name(RELEASE))
    await control.unload_adapter(RELEASE)
    await control.unload_adapter(RELEASE)
    with pytest.raises(UpstreamError, match="does not exist"):
        await control.probe(engine_name(RELEASE))
    await control.close()


async def test_replaced_weights_are_named_and_no_adapter_stays_over_them(served: Served, tmp_path: Path) -> None:
    control = VllmControl(served.url, 16)
    await control.mark_weights("rel_base")
    assert await control.held_weights() == "rel_base"
    await control.load_adapter(RELEASE, weights(tmp_path / "adapter", "bold"))
    await control.replace_weights(RELEASE, weights(tmp_path / "merged", "bold"))
    assert await control.held_weights() == RELEASE
    assert served.engine.adapters == {}
    assert served.engine.open.is_set()
    assert served.engine.writer(WEIGHTS_NAME).marker == "bold"
    await control.close()


async def test_weights_that_do_not_load_are_a_failed_swap_and_the_engine_is_resumed(
    served: Served, tmp_path: Path
) -> None:
    control = VllmControl(served.url, 16)
    with pytest.raises(SwapFailed, match=r"holds no config\.json") as caught:
        await control.replace_weights(RELEASE, tmp_path / "nowhere")
    assert isinstance(caught.value.__cause__, UpstreamError)
    assert served.engine.open.is_set()
    await control.close()


async def test_cache_that_will_not_be_emptied_is_a_failed_swap(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm, "CACHE_RESET_TRIES", 2)
    control = VllmControl(served.url, 16)
    folder = weights(tmp_path / "merged", "bold")
    monkeypatch.setattr(served.engine, "in_flight", 0)
    calls = 0

    async def refuse(path: str, *arguments: object, **more: object) -> object:
        nonlocal calls
        if path == "/reset_prefix_cache":
            calls += 1
            return {"success": False}
        return await post(path, *arguments, **more)  # type: ignore[arg-type]

    post = control._calls.post
    monkeypatch.setattr(control._calls, "post", refuse)
    with pytest.raises(SwapFailed, match="kept its prefix cache"):
        await control.replace_weights(RELEASE, folder)
    assert calls == 2
    assert served.engine.open.is_set()
    await control.close()


async def test_engine_too_old_to_name_its_weights_says_none() -> None:
    runner, url = await serve(web.Application())
    control = VllmControl(url, 0)
    assert await control.held_weights() is None
    await control.mark_weights(RELEASE)
    await control.close()
    await runner.cleanup()


async def test_what_an_engine_counts_of_its_work_is_told_and_not_what_its_server_counts() -> None:
    lines = [
        "# HELP vllm:generation_tokens_total Number of generation tokens processed.",
        'vllm:kv_cache_usage_perc{engine="0",model_name="weights"} 0.25',
        'vllm:generation_tokens_total{engine="0",model_name="weights"} 7201.0',
        'vllm:num_requests_running{engine="0",model_name="weights"} 1.0',
        'http_requests_total{handler="/metrics",method="GET",status="2xx"} 12.0',
        "process_cpu_seconds_total 12.5",
        'lmdeploy:generation_tokens_total{engine="0"} 9.0',
    ]

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(text="\n".join(lines) + "\n")

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner, url = await serve(app)
    control = VllmControl(url, 0)
    assert await control.work_done() == "\n".join((lines[1], lines[2], lines[6]))
    await control.close()
    await runner.cleanup()


async def test_an_engine_without_metrics_does_not_tell_of_its_work() -> None:
    runner, url = await serve(web.Application())
    control = VllmControl(url, 0)
    assert await control.work_done() == ""
    await control.close()
    await runner.cleanup()


async def test_every_failure_is_an_upstream_error_of_bounded_length() -> None:
    async def complain(request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "x" * 10_000_000}}, status=500)

    app = web.Application()
    app.router.add_post("/v1/completions", complain)
    runner, url = await serve(app)
    control = VllmControl(url, 0)
    with pytest.raises(UpstreamError) as caught:
        await control.probe(WEIGHTS_NAME)
    assert len(caught.value.message) < 1000
    await runner.cleanup()
    with pytest.raises(UpstreamError, match="cannot be reached"):
        await control.probe(WEIGHTS_NAME)
    await control.close()


def launch(monkeypatch: pytest.MonkeyPatch, install: VllmInstall, settings: EngineSettings) -> vllm.Launch:
    monkeypatch.setattr(vllm, "find_vllm", lambda python: install)
    return VllmLauncher().launch(settings, Path("/models/m"), 8123, "0,1")


def test_gpu_engine_listens_on_loopback_with_the_user_s_arguments_last(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = EngineSettings(args=("--dtype", "half"), environment={"HF_HUB_OFFLINE": "0"}, max_adapter_rank=12)
    made = launch(monkeypatch, VllmInstall("0.32.0", cpu=False, compiled=True), settings)
    assert made.command[:3] == (sys.executable, "-m", "vllm.entrypoints.openai.api_server")
    assert made.command[made.command.index("--host") + 1] == "127.0.0.1"
    assert made.command[made.command.index("--max-lora-rank") + 1] == "16"
    assert made.command[-2:] == ("--dtype", "half")
    assert made.environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert made.environment["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert made.environment["HF_HUB_OFFLINE"] == "0"
    assert "PYTHONPYCACHEPREFIX" not in made.environment


def test_cpu_engine_is_started_by_our_launcher_and_keeps_bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = EngineSettings(python=Path("/opt/engine/bin/python"), max_adapter_rank=0)
    made = launch(monkeypatch, VllmInstall("0.32.0", cpu=True, compiled=False), settings)
    assert made.command[:2] == ("/opt/engine/bin/python", str(CPU_LAUNCHER))
    assert made.command[made.command.index("--dtype") + 1] == "float32"
    assert "--enable-lora" not in made.command
    assert made.environment["PYTHONDONTWRITEBYTECODE"] == ""
    assert "alignway" in made.environment["PYTHONPYCACHEPREFIX"]


def test_rank_is_rounded_up_to_one_that_vllm_takes() -> None:
    assert [allowed_rank(rank) for rank in (1, 8, 9, 16, 100)] == [8, 8, 16, 16, 128]


def test_python_without_vllm_is_refused_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(StartupFailed, match=r"engine\.python"):
        find_vllm(tmp_path / "no-python")
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(StartupFailed, match="engine-cpu"):
        find_vllm(bare)


def test_launcher_starts_another_vllm_the_ordinary_way(tmp_path: Path) -> None:
    package = tmp_path / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    for folder in (tmp_path / "vllm", tmp_path / "vllm" / "entrypoints", package):
        (folder / "__init__.py").touch()
    (package / "api_server.py").write_text(
        "import os, sys; print('ordinary', sys.argv[1:], os.environ.get('VLLM_ENABLE_V1_MULTIPROCESSING'))"
    )
    command = [sys.executable, "-S", str(CPU_LAUNCHER), "--port", "1"]
    done = subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "ordinary ['--port', '1'] None"
    assert "does not fit this vLLM" in done.stderr
