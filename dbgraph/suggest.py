"""The nearest name that exists, for a name that does not."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """The question to ask, or "" where nothing is near.

    >>> did_you_mean("lable", ["image", "label"])
    "did you mean 'label'?"
    """
    by_lower = {choice.lower(): choice for choice in choices}
    near = get_close_matches(word.lower(), by_lower, n=1)
    return f"did you mean {by_lower[near[0]]!r}?" if near else ""
