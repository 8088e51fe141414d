"""The scripted engine's HTTP routes: vLLM's, as far as Alignway calls them."""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.contracts.ids import WEIGHTS_NAME
from gateway.engines.scripted_engine import Folder, Refusal, Script, ScriptedEngine, write_script

ENGINE: web.AppKey[ScriptedEngine] = web.AppKey("engine")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Send = Callable[..., Awaitable[None]]


def build_app(engine: ScriptedEngine) -> web.Application:
    """The server over one engine."""
    # What is too large, the gateway says: engines take more.
    app = web.Application(middlewares=[refuse_like_vllm], client_max_size=64 << 20)
    app[ENGINE] = engine
    app.add_routes(
        [
            web.get("/health", answer_health),
            web.get("/metrics", answer_metrics),
            web.get("/v1/models", list_models),
            web.post("/v1/chat/completions", answer_chat),
            web.post("/v1/completions", answer_completion),
            web.post("/v1/load_lora_adapter", load_adapter),
            web.post("/v1/unload_lora_adapter", unload_adapter),
            web.post("/pause", pause),
            web.post("/resume", resume),
            web.get("/is_paused", is_paused),
            web.post("/collective_rpc", reload_weights),
            web.post("/reset_prefix_cache", reset_prefix_cache),
            web.post("/update_weight_version", update_weight_version),
            web.get("/weight_info", weight_info),
        ]
    )
    return app


@web.middleware
async def refuse_like_vllm(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn a `Refusal` into vLLM's error body."""
    try:
        return await handler(request)
    except Refusal as refusal:
        error = {"message": refusal.message, "type": refusal.kind, "param": None, "code": refusal.status}
        return web.json_response({"error": error}, status=refusal.status)


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def _scripts(body: dict[str, Any]) -> list[Script]:
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    choices = range(body.get("n") or 1)
    return [write_script(prompt, limit, index) for prompt in _prompts(body) for index in choices]


def _prompts(body: dict[str, Any]) -> list[str]:
    if "prompt" not in body:
        return ["\n".join(_text(message) for message in body["messages"])]
    prompt = body["prompt"]
    return [str(text) for text in prompt] if isinstance(prompt, list) else [str(prompt)]


def _usage(body: dict[str, Any], scripts: list[Script]) -> dict[str, int]:
    prompt_tokens = len(json.dumps(body.get("messages", body.get("prompt"))).split())
    said = sum(script.count for script in scripts)
    return {"prompt_tokens": prompt_tokens, "completion_tokens": said, "total_tokens": prompt_tokens + said}


def _head(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{os.urandom(8).hex()}",
        "object": kind,
        "created": int(time.time()),
        "model": body["model"],
    }


async def _whole(engine: ScriptedEngine, body: dict[str, Any]) -> list[str]:
    async def one(script: Script) -> str:
        return "".join([word async for word in engine.say(body["model"], script)])

    return list(await asyncio.gather(*(one(script) for script in _scripts(body))))


async def answer_chat(request: web.Request) -> web.StreamResponse:
    """POST /v1/chat/completions, whole or streamed."""
    engine: ScriptedEngine = request.app[ENGINE]
    body = await request.json()
    engine.writer(body["model"])
    async with engine.generating():
        if body.get("stream"):
            return await _stream_chat(request, engine, body)
        texts = await _whole(engine, body)
    scripts = _scripts(body)
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": text},
            "logprobs": None,
            "finish_reason": script.finish_reason,
        }
        for index, (text, script) in enumerate(zip(texts, scripts, strict=True))
    ]
    usage = _usage(body, scripts)
    return web.json_response({**_head(body, "chat.completion"), "choices": choices, "usage": usage})


async def _stream_chat(request: web.Request, engine: ScriptedEngine, body: dict[str, Any]) -> web.StreamResponse:
    send, response = await _opened(request, _head(body, "chat.completion.chunk"))
    scripts = _scripts(body)

    async def one(index: int, script: Script) -> None:
        await send([_delta(index, {"role": "assistant", "content": ""}, None)])
        async for word in engine.say(body["model"], script):
            await send([_delta(index, {"content": word}, None)])
        await send([_delta(index, {"content": ""}, script.finish_reason)])

    await asyncio.gather(*(one(index, script) for index, script in enumerate(scripts)))
    return await _closed(send, response, body, scripts)


async def _opened(request: web.Request, head: dict[str, Any]) -> tuple[Send, web.StreamResponse]:
    response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)

    async def send(choices: list[dict[str, Any]], **more: Any) -> None:
        await response.write(b"data: " + json.dumps({**head, "choices": choices, **more}).encode() + b"\n\n")

    return send, response


async def _closed(
    send: Send, response: web.StreamResponse, body: dict[str, Any], scripts: list[Script]
) -> web.StreamResponse:
    if (body.get("stream_options") or {}).get("include_usage"):
        await send([], usage=_usage(body, scripts))
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


def _delta(index: int, delta: dict[str, str], finish_reason: str | None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


async def answer_completion(request: web.Request) -> web.StreamResponse:
    """POST /v1/completions, whole or streamed."""
    engine: ScriptedEngine = request.app[ENGINE]
    body = await request.json()
    engine.writer(body["model"])
    async with engine.generating():
        if body.get("stream"):
            return await _stream_completion(request, engine, body)
        texts = await _whole(engine, body)
    scripts = _scripts(body)
    choices = [_piece(index, text, scripts[index].finish_reason) for index, text in enumerate(texts)]
    return web.json_response({**_head(body, "text_completion"), "choices": choices, "usage": _usage(body, scripts)})


async def _stream_completion(request: web.Request, engine: ScriptedEngine, body: dict[str, Any]) -> web.StreamResponse:
    send, response = await _opened(request, _head(body, "text_completion"))
    scripts = _scripts(body)

    async def one(index: int, script: Script) -> None:
        async for word in engine.say(body["model"], script):
            await send([_piece(index, word, None)])
        await send([_piece(index, "", script.finish_reason)])

    await asyncio.gather(*(one(index, script) for index, script in enumerate(scripts)))
    return await _closed(send, response, body, scripts)


def _piece(index: int, text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason, "stop_reason": None}


async def answer_health(request: web.Request) -> web.Response:
    """GET /health: as in vLLM, it proves little."""
    return web.Response()


async def answer_metrics(request: web.Request) -> web.Response:
    """GET /metrics: what is asked for here."""
    engine = request.app[ENGINE]
    figures = {"num_requests_running": engine.in_flight, "generation_tokens_total": engine.said}
    return web.Response(text="".join(f"vllm:{name} {float(figure)}\n" for name, figure in figures.items()))


async def list_models(request: web.Request) -> web.Response:
    """GET /v1/models: the weights, then the adapters."""
    engine = request.app[ENGINE]
    names = [(WEIGHTS_NAME, None), *((name, WEIGHTS_NAME) for name in engine.adapters)]
    data = [{"id": name, "object": "model", "owned_by": "scripted", "parent": parent} for name, parent in names]
    return web.json_response({"object": "list", "data": data})


async def load_adapter(request: web.Request) -> web.Response:
    """POST /v1/load_lora_adapter."""
    engine, body = request.app[ENGINE], await request.json()
    name = body["lora_name"]
    if name in engine.adapters:
        raise Refusal(400, "InvalidUserInput", f"The lora adapter '{name}' has already been loaded.")
    engine.adapters[name] = Folder.read(Path(body["lora_path"]), needs="adapter_config.json")
    return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")


async def unload_adapter(request: web.Request) -> web.Response:
    """POST /v1/unload_lora_adapter."""
    engine, body = request.app[ENGINE], await request.json()
    name = body["lora_name"]
    if engine.adapters.pop(name, None) is None:
        raise Refusal(404, "NotFoundError", f"The lora adapter '{name}' cannot be found.")
    return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")


async def pause(request: web.Request) -> web.Response:
    """POST /pause?mode=wait: newcomers wait from here on; answered when the open answers have ended."""
    engine = request.app[ENGINE]
    if request.query.get("mode") != "wait":
        raise Refusal(
            400, "InvalidUserInput", "the scripted engine pauses with mode=wait only: the others lose answers"
        )
    engine.open.clear()
    await engine.idle.wait()
    return web.json_response({"status": "paused"})


async def resume(request: web.Request) -> web.Response:
    """POST /resume."""
    request.app[ENGINE].open.set()
    return web.json_response({"status": "resumed"})


async def is_paused(request: web.Request) -> web.Response:
    """GET /is_paused."""
    return web.json_response({"is_paused": not request.app[ENGINE].open.is_set()})


async def reload_weights(request: web.Request) -> web.Response:
    """POST /collective_rpc reload_weights: as in vLLM, weights that do not load leave the engine unusable."""
    engine, body = request.app[ENGINE], await request.json()
    if body.get("method") != "reload_weights":
        raise Refusal(400, "InvalidUserInput", "the scripted engine knows reload_weights only")
    engine.weights = None
    engine.weights = Folder.read(Path(body["kwargs"]["weights_path"]), needs="config.json")
    return web.json_response({"results": [None]})


async def reset_prefix_cache(request: web.Request) -> web.Response:
    """POST /reset_prefix_cache: fails while an answer is open."""
    return web.json_response({"success": request.app[ENGINE].in_flight == 0})


async def update_weight_version(request: web.Request) -> web.Response:
    """POST /update_weight_version."""
    engine, body = request.app[ENGINE], await request.json()
    engine.version = body["new_version"]
    return web.json_response({"success": True, "new_version": engine.version})


async def weight_info(request: web.Request) -> web.Response:
    """GET /weight_info."""
    return web.json_response({"weight_version": request.app[ENGINE].version})
