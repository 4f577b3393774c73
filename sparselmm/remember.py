"""Answers that are asked for more than once, kept as long as the fit they belong to."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import TypeVar

Owner = TypeVar("Owner")
Answer = TypeVar("Answer")


def remember(function: Callable[[Owner], Answer]) -> Callable[[Owner], Answer]:
    """Let a pure function of one frozen record compute every answer once.

    Records hold arrays and have no hash, so answers are found by identity and dropped with the record.
    """
    answers: dict[int, Answer] = {}

    @functools.wraps(function)
    def ask(owner: Owner) -> Answer:
        key = id(owner)
        if key not in answers:
            answers[key] = function(owner)
            weakref.finalize(owner, answers.pop, key, None)
        return answers[key]

    return ask
