"""A server that somebody else runs, by its address: what it lists, and whether it can be what it is said to be.

Nobody can read its weights over HTTP. What it says of them is compared: the name and the folder of its model, and the
release that engines of Alignway remember. Silence is taken for consent, a contradiction is not.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gateway.contracts.ids import RELEASE, engine_name
from gateway.engines.calls import CallRefused, EngineCalls
from gateway.errors import Conflict, InvalidRequest, UpstreamError

LOOK_SECONDS = 10.0
GENERATE_SECONDS = 60.0
RETURN_PATIENCE = 4
"""A token may take so many times as long as a list of models."""
SHOWN_MODELS = 5
RELEASE_ID = re.compile(rf"(?<![0-9a-z]){RELEASE[:-1]}[_-][0-9a-hjkmnp-tv-z]{{26}}(?![0-9a-z])")
"""In a model's name or folder; engines write `-` for `_`."""


@dataclass(frozen=True)
class Server:
    """Where a release is served, and under what name."""

    url: str
    model: str
    kind: str
    """`vllm` or `lmdeploy`, if it says so; else `url`."""


@dataclass(frozen=True)
class Wanted:
    """The release that a server is said to hold."""

    id: str
    name: str
    model: str | None = None
    """What the server calls it, if somebody said so."""

    def is_called(self, model: Mapping[str, Any]) -> bool:
        """Whether a listed model goes by this release's name, or lies in its folder."""
        return model["id"] in (self.id, self.name, engine_name(self.id)) or self.id in releases_named(model)


def base_address(given: str) -> str:
    """The base address of a server as somebody typed it, with or without `/v1`. Raises `InvalidRequest`."""
    url = given.strip().rstrip("/").removesuffix("/v1").rstrip("/")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment or "@" in parts.netloc or re.search(r"\s", url):
        raise InvalidRequest(
            f"{given[:200]!r} is no address of a server. Give one such as http://127.0.0.1:8000, without a key, a "
            "query or a route in it.",
            param="urls",
            code="invalid_url",
        )
    return url


def dialect_among(owners: Iterable[Any]) -> str | None:
    """What a server is whose models have these owners: engines sign their models. None: it does not say."""
    return next((owner for owner in owners if owner in ("vllm", "lmdeploy")), None)


def releases_named(model: Mapping[str, Any]) -> set[str]:
    """Ids of the releases that a listed model's name or folder speaks of."""
    texts = (str(model.get(key) or "") for key in ("id", "root"))
    return {found.replace("-", "_", 1) for text in texts for found in RELEASE_ID.findall(text)}


async def find_server(url: str, wanted: Wanted) -> Server:
    """The server at `url` that serves the release: proved by a generation. Raises `Conflict`, saying what to do."""
    calls = EngineCalls(url)
    try:
        listed = await _listed(calls)
        model = _chosen(url, listed, wanted)
        _check_names(url, model, wanted)
        await _check_version(calls, model, wanted)
        await _generate(calls, str(model["id"]))
    finally:
        await calls.close()
    return Server(url, str(model["id"]), dialect_among([one.get("owned_by") for one in listed]) or "url")


async def trouble_with(server: Server, release_id: str, timeout_seconds: float, *, returned: bool) -> str | None:
    """Why a server that was found before must get nothing now; None: it serves the release as far as it says.

    One that has `returned` may be another than before: it has to prove itself anew. The others are only asked for
    their models.
    """
    calls, wanted = EngineCalls(server.url), Wanted(release_id, release_id, server.model)
    try:
        model = _chosen(server.url, await _listed(calls, timeout_seconds), wanted)
        _check_names(server.url, model, wanted)
        if returned:
            await _check_version(calls, model, wanted)
            await _generate(calls, server.model, RETURN_PATIENCE * timeout_seconds)
    except Conflict as error:
        return error.message
    finally:
        await calls.close()
    return None


async def _listed(calls: EngineCalls, timeout_seconds: float = LOOK_SECONDS) -> list[dict[str, Any]]:
    try:
        answer = await calls.get("/v1/models", timeout_seconds)
    except UpstreamError as error:
        raise _no_server(calls.url, error.message) from error
    models = answer.get("data") if isinstance(answer, dict) else None
    named = [model for model in models or () if isinstance(model, dict) and isinstance(model.get("id"), str)]
    if not named:
        raise _no_server(calls.url, "it answers /v1/models with no list of models")
    return named


def _no_server(url: str, what: str) -> Conflict:
    return Conflict(
        f"{url} does not answer as an OpenAI-compatible server: {what}. Start the candidate's server, or correct the "
        "address; what serves now serves on.",
        param="urls",
        code="server_unreachable",
    )


def _chosen(url: str, listed: Sequence[dict[str, Any]], wanted: Wanted) -> dict[str, Any]:
    """The listed model that is the release: by the name that somebody said, else by its own."""
    if wanted.model is not None:
        found = next((model for model in listed if model["id"] == wanted.model), None)
    else:
        found = next((model for model in listed if wanted.is_called(model)), None)
    if found is not None:
        return found
    names = ", ".join(model["id"] for model in listed[:SHOWN_MODELS])
    missing = f"no model `{wanted.model}`" if wanted.model else f"no model that is called {wanted.name}"
    raise Conflict(
        f"{url} serves {names}, and {missing}. Start it with --served-model-name {wanted.name}, or, if one of these "
        "is the release, say which with `served_model` (--served-model).",
        param="served_model",
        code="wrong_model",
    )


def _check_names(url: str, model: Mapping[str, Any], wanted: Wanted) -> None:
    named = releases_named(model)
    if named and wanted.id not in named:
        raise _foreign(url, str(model["id"]), min(named))


async def _check_version(calls: EngineCalls, model: Mapping[str, Any], wanted: Wanted) -> None:
    """Engines that Alignway once exchanged weights in know whose they are."""
    if model.get("parent"):
        return  # an adapter, of which /weight_info says nothing
    try:
        answer = await calls.get("/weight_info", LOOK_SECONDS)
    except UpstreamError:
        return  # most servers have no such route
    held = answer.get("weight_version") if isinstance(answer, dict) else None
    if isinstance(held, str) and RELEASE_ID.fullmatch(held) and held.replace("-", "_", 1) != wanted.id:
        raise _foreign(calls.url, str(model["id"]), held)


def _foreign(url: str, model: str, held: str) -> Conflict:
    return Conflict(
        f"`{model}` at {url} holds other weights: those of {held}. Start the server on the release's merged folder "
        "(`alignway releases show NAME` says where it lies); what serves now serves on.",
        param="urls",
        code="foreign_weights",
    )


async def _generate(calls: EngineCalls, model: str, timeout_seconds: float = GENERATE_SECONDS) -> None:
    """One token of a chat: what clients will ask for, and the only proof that an engine serves."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1, "temperature": 0}
    try:
        answer = await calls.post("/v1/chat/completions", body, timeout_seconds=timeout_seconds)
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise UpstreamError("it answered with no choice")
    except UpstreamError as error:
        refused = isinstance(error, CallRefused) and error.answered in (401, 403)
        advice = "Alignway sends engines no key: let it in without one" if refused else "See the server's log"
        raise Conflict(
            f"`{model}` at {calls.url} does not answer a chat: {error.message}. {advice}; what serves now serves on.",
            param="urls",
            code="server_does_not_generate",
        ) from error
