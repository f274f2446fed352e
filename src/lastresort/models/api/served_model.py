"""Which model answers, as the replies of a server name it."""

from __future__ import annotations

import logging
import re
import threading

from lastresort.models.calls import TransientFailure

_log = logging.getLogger("lastresort")
CONFIRMED = 6  # a few calls once in a run; a gateway that passes on now and then hardly passes on six in a row
_MOST_DOUBTS = 24
_VERSION = re.compile(r"[:@].+|-\d[\d-]*(-preview)?|-latest")


class ServedModel:
    """Which model answers, as the server's replies name it. A gateway may pass a request on to another one.

    A server may use its own name for a model, such as a path. That counts as its name once CONFIRMED replies in a row give it.
    """

    def __init__(self, where: str) -> None:
        self._where, self._lock = where, threading.Lock()
        self._settled: dict[str, str] = {}
        self._said: dict[str, tuple[str, int]] = {}
        self._doubts = 0

    def is_doubtful(self, asked: str, said: str) -> bool:
        """Whether to ask again at once, to see which model answers.

        Raises TransientFailure if a reply comes from another model than was asked for, or than answered before.
        """
        if not said:
            return False
        own = asked if is_version_of(said, asked) else said
        with self._lock:
            known = self._settled.get(asked)
            if known is None:
                name, count = self._said.get(asked, ("", 0))
                count = count + 1 if name == own else 1
                self._said[asked] = own, count
                if own == asked or own in self._settled.values() or count >= CONFIRMED:
                    known = self._settled[asked] = own
                    self._warn(asked, own)
                elif (doubts := self._doubts) < _MOST_DOUBTS:
                    self._doubts = doubts + 1
                    return True
            if own == known:
                return False
        raise TransientFailure(f'the answer comes from the model "{said[:200]}", not from "{known or asked}"')

    def note(self, asked: str, said: str) -> None:
        """Of an answer that is shown and not scored."""
        with self._lock:
            if said and asked not in self._settled:
                own = self._settled[asked] = asked if is_version_of(said, asked) else said
                self._warn(asked, own)

    def _warn(self, asked: str, own: str) -> None:
        if own != asked:
            _log.warning("%s calls its model %s. Check that this is the one you want.", self._where, own[:200])


def is_version_of(said: str, asked: str) -> bool:
    """Whether a server may answer with this name if another is asked for: the same, of a provider, dated, or with a tag."""
    names = [name.lower().rsplit("/", 1)[-1].removesuffix(".gguf") for name in (said, asked)]
    shorter, longer = sorted(names, key=len)
    if not shorter.strip():
        return False
    shorter = re.sub("[-:]latest$", "", shorter)
    return longer.startswith(shorter) and (longer == shorter or _VERSION.fullmatch(longer, len(shorter)) is not None)
