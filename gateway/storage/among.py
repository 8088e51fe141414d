"""Rows whose key is one of many: the list goes to the database as one parameter, which the two spell differently.

A parameter for each key costs more than to look its row up.
"""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Text, func, literal, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession


def among(session: AsyncSession, column: ColumnElement[Any], keys: Sequence[str]) -> ColumnElement[bool]:
    """Whether the column is one of the keys."""
    if session.get_bind().dialect.name == "postgresql":
        return column == func.any(literal(list(keys), postgresql.ARRAY(Text)))
    return column.in_(select(func.json_each(json.dumps(list(keys))).table_valued("value").c.value))
