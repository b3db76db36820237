"""Named recipes. `get` finds one, `names` lists them; the rows stand in ``table.py``."""

from __future__ import annotations

import difflib

from lowbit.config import Recipe
from lowbit.recipes.table import TABLE

_BY_NAME = {recipe.name: recipe for recipe in TABLE}


def names() -> list[str]:
    """The names of all recipes, in the order of the table."""
    return list(_BY_NAME)


def get(name: str | Recipe) -> Recipe:
    """The recipe called `name`; a Recipe is returned as it is.

    Raises:
        ValueError: no such recipe; the sentence suggests the nearest name.
    """
    if isinstance(name, Recipe):
        return name
    found = _BY_NAME.get(name)
    if found is None:
        longer = [known for known in _BY_NAME if known.startswith(str(name))]
        near = (longer or difflib.get_close_matches(str(name), _BY_NAME, n=1, cutoff=0.0))[0]
        raise ValueError(
            f'quantize: recipe must be a known name or a Recipe, got {name!r}; did you mean "{near}"? '
            "lowbit.recipes.names() lists them all"
        )
    return found
