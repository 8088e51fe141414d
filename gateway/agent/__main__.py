"""`python -m gateway.agent`: an engine agent as a process of its own.

Its settings come as one line of JSON, in an argument or, so that no password shows in a list of processes, as the
first line of standard input, which may then stay open as the lifeline to the parent.
"""

import argparse
import asyncio
import sys

from pydantic import ValidationError

from gateway.agent.agent import run_agent
from gateway.agent.settings import AgentSettings
from gateway.errors import AlignwayError
from gateway.lifeline import end_with_parent, read_first_line
from gateway.logs import configure_logs

FROM_INPUT = "-"


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status."""
    options = _parser().parse_args(arguments)
    document = read_first_line() if options.settings == FROM_INPUT else options.settings
    if options.lifeline:
        end_with_parent()
    configure_logs()
    try:
        asyncio.run(run_agent(AgentSettings.model_validate_json(document)))
    except ValidationError as error:
        print(f"the settings of the engine agent are not right: {error}", file=sys.stderr)
        return 2
    except AlignwayError as error:
        print(f"{error.code}: {error.message}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gateway.agent", description="Run engines as the database says.")
    parser.add_argument("--settings", required=True, metavar="JSON", help="an AgentSettings document; -: read one line")
    parser.add_argument("--lifeline", action="store_true", help="stop when standard input ends: the parent is gone")
    return parser


if __name__ == "__main__":
    sys.exit(main())
