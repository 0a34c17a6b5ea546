"""What a structure says at one theta is asked for many times there: the last answer is kept."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

Answer = TypeVar("Answer")
_KEPT = "_at_last_theta_"


def kept_at_last_theta(method: Callable[[Any, np.ndarray], Answer]) -> Callable[[Any, np.ndarray], Answer]:
    """Keep, on its object, what a method of theta (n_theta,) answered last; nobody may change it."""
    name = _KEPT + method.__name__

    @functools.wraps(method)
    def kept(self: Any, theta: np.ndarray) -> Answer:
        key, known = theta.tobytes(), self.__dict__.get(name)
        if known is None or known[0] != key:
            known = self.__dict__[name] = key, method(self, theta)
        answer: Answer = known[1]
        return answer

    return kept


def forget_last_theta(owner: Any) -> None:
    """Forget what is kept, of an object on which more than theta has changed."""
    for name in [own for own in owner.__dict__ if own.startswith(_KEPT)]:
        del owner.__dict__[name]
