"""What a database's driver is told to connect, for those who go past SQLAlchemy."""

from typing import Any

from sqlalchemy import make_url

OF_SQLALCHEMY = ("prepared_statement_cache_size", "prepared_statement_name_func")
"""Options in a URL that SQLAlchemy takes to heart itself; the driver knows nothing of them."""


def driver_arguments(url: str) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of the driver's `connect`, in order and by name."""
    parsed = make_url(url)
    positional, named = parsed.get_dialect()().create_connect_args(parsed)
    return list(positional), {name: value for name, value in named.items() if name not in OF_SQLALCHEMY}
