"""Carries the thumbs that people give in Open WebUI to Alignway, as votes on the answers that Alignway wrote.

    python bridge.py --webui http://localhost:3000 --webui-token TOKEN --alignway http://localhost:8080/v1 --key sk-...
    python bridge.py --export feedback-history-export.json --alignway http://localhost:8080/v1 --key sk-...

Run it as often as you like: what was sent and has not changed is not sent again (`--state`), and Alignway keeps one
vote for one person and one answer in any case. A rating that was changed in Open WebUI changes its vote; one that was
taken back or deleted retracts it. Needs `pip install alignway`, whose reader of Open WebUI's chats it uses.
"""

import argparse
import json
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

from gateway.contracts.message import Message
from gateway.formats.fields import BadRow
from gateway.formats.openwebui import Rated, read_rating

EXPORT = "/api/v1/evaluations/feedbacks/all/export"
TIMEOUT_SECONDS = 60
Feedback = dict[str, Any]


@dataclass
class State:
    """Which ratings were sent, in which version, and as which votes: a JSON file, whole after every rating."""

    path: Path
    sent: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> "State":
        """What the file says; nothing, if there is none."""
        return cls(path, json.loads(path.read_text(encoding="utf-8")) if path.exists() else {})

    def keep(self, rating_id: str, updated_at: int, votes: list[str]) -> None:
        """Note that a rating became these votes."""
        self.sent[rating_id] = {"updated_at": updated_at, "votes": votes}
        self._write()

    def forget(self, rating_id: str) -> None:
        """Note that a rating is no more."""
        del self.sent[rating_id]
        self._write()

    def votes_but(self, rating_id: str) -> set[str]:
        """The votes that other ratings stand behind: two ratings of one person may stand behind the same vote."""
        return {vote for other, one in self.sent.items() if other != rating_id for vote in one["votes"]}

    def _write(self) -> None:
        unfinished = self.path.with_suffix(".part")
        unfinished.write_text(json.dumps(self.sent, indent=1), encoding="utf-8")
        unfinished.replace(self.path)


def main(arguments: list[str] | None = None) -> int:
    """Carry everything over once; 0 unless some rating could not be read or found."""
    options = _options(arguments)
    feedbacks = _exported(options.export) if options.export else fetch(options.webui, options.webui_token)
    with openai.OpenAI(base_url=options.alignway, api_key=options.key, max_retries=5) as client:
        done = carry(feedbacks, client, State.read(options.state))
    print(json.dumps(dict(sorted(done.items()))))
    return 0 if not done["unreadable"] + done["refused"] else 1


def fetch(webui: str, token: str) -> list[Feedback]:
    """Every rating with the chat it was given in; the token is an admin's API key or session token."""
    request = urllib.request.Request(webui.rstrip("/") + EXPORT, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        return list(json.load(answer))


def carry(feedbacks: Iterable[Feedback], client: openai.OpenAI, state: State) -> Counter[str]:
    """Send what is new or changed, oldest first, and retract what is gone; counts of what became of the ratings."""
    done: Counter[str] = Counter()
    present = sorted(feedbacks, key=lambda one: one["updated_at"])
    for feedback in present:
        known = state.sent.get(feedback["id"])
        if known is not None and known["updated_at"] == feedback["updated_at"]:
            done["unchanged"] += 1
            continue
        done[_carry_one(feedback, client, state)] += 1
    for rating_id in sorted(state.sent.keys() - {feedback["id"] for feedback in present}):
        votes = state.sent[rating_id]["votes"]
        _retract(client, votes, state.votes_but(rating_id))
        state.forget(rating_id)
        done["retracted"] += 1
    return done


def votes_of(feedback: Feedback) -> Iterator[dict[str, Any]]:
    """The bodies for `POST /v1/feedback`; none for a thumb that was taken back. Raises `BadRow`.

    An answer with siblings is preferred to them, or they to it, unless they have the same thumb. One without is rated.
    """
    rated = read_rating(feedback)
    if rated is None:
        return
    common = _common(feedback)
    others = [message for _, message, thumb in rated.siblings if thumb != rated.is_up]
    if not others:
        thumb = {"type": "rating", "name": "thumbs", "value": rated.is_up}
        yield common | thumb | {"target": _target(rated, rated.answer)}
    for other in others:
        chosen, rejected = (rated.answer, other) if rated.is_up else (other, rated.answer)
        yield common | {
            "type": "preference",
            "chosen": _target(rated, chosen),
            "rejected": [_target(rated, rejected)],
        }


def _carry_one(feedback: Feedback, client: openai.OpenAI, state: State) -> str:
    before = state.sent.get(feedback["id"], {}).get("votes", [])
    try:
        bodies = list(votes_of(feedback))
        votes = [client.post("/feedback", body=body, cast_to=dict[str, Any])["id"] for body in bodies]
    except BadRow as error:
        print(f"{feedback['id']}: {error.message}", file=sys.stderr)
        return "unreadable"
    except openai.NotFoundError:  # answered by another model, or before Alignway: it is looked for again next time
        return "unknown"
    except (openai.BadRequestError, openai.ConflictError) as error:
        print(f"{feedback['id']}: {error.message}", file=sys.stderr)
        return "refused"
    _retract(client, before, state.votes_but(feedback["id"]) | set(votes))
    state.keep(feedback["id"], feedback["updated_at"], votes)
    return "sent" if votes else "without_thumb"


def _retract(client: openai.OpenAI, votes: Iterable[str], standing: set[str]) -> None:
    """Take back the votes that stand for no rating any more; noted only afterwards, so that a crash loses none."""
    for vote in sorted(set(votes) - standing):
        try:
            client.delete(f"/feedback/{vote}", cast_to=object)
        except openai.NotFoundError:
            continue  # erased meanwhile


def _common(feedback: Feedback) -> dict[str, Any]:
    """Who rated, and what they said of it. Alignway keeps the person as a keyed hash alone."""
    data = feedback["data"] or {}
    said: dict[str, Any] = {
        "rater": {"id": feedback["user_id"], "kind": "end_user"},
        "external_id": feedback["id"],
        "tags": [str(tag)[:64] for tag in [data.get("reason"), *(data.get("tags") or [])] if tag][:16],
    }
    return said | ({"comment": str(data["comment"])[:4000]} if data.get("comment") else {})


def _target(rated: Rated, answer: Message) -> dict[str, Any]:
    """The answer by what it says: Open WebUI keeps no id of ours. Alignway looks its own text up."""
    messages = [{"role": message.role, "content": message.text} for message in rated.prompt]
    return {"match": {"messages": messages, "content": answer.text}}


def _exported(path: Path) -> list[Feedback]:
    return list(json.loads(path.read_text(encoding="utf-8")))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Carry Open WebUI's ratings to Alignway.")
    origin = parser.add_mutually_exclusive_group(required=True)
    origin.add_argument("--webui", help="where Open WebUI is, such as http://localhost:3000")
    origin.add_argument("--export", type=Path, help="or: its feedback export, a JSON file")
    parser.add_argument("--webui-token", default="", help="an admin's API key or session token")
    parser.add_argument("--alignway", required=True, help="base URL, such as http://localhost:8080/v1")
    parser.add_argument("--key", required=True, help="a key with the scopes feedback,feedback:delegate")
    parser.add_argument("--state", type=Path, default=Path("openwebui-bridge.json"), help="what was sent already")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
