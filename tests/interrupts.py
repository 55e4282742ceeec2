"""Ctrl-C, or another signal, at each moment at which Python looks for one."""

from __future__ import annotations

import dis
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from types import CodeType, FrameType
from typing import Any

OURS = ("kvdict.", "threading", "contextlib")
"""Modules, and those below packages, in which it is interrupted: for the rest their calls stand."""
LOOKS = ("CALL", "CALL_FUNCTION_EX", "CALL_KW", "JUMP_BACKWARD")
"""The instructions at whose end the interpreter looks for signals, as where a function begins."""


def at_every_moment(call: Callable[[], object]) -> Iterator[int]:
    """Call again and again, each time interrupted a moment later, until it comes to its end.

    Yields behind each interrupt the number of its moment.
    """
    for moment in count(1):
        if not is_interrupted(call, moment):
            return
        yield moment


def is_interrupted(call: Callable[[], object], moment: int) -> bool:
    """Call, with an interrupt at a moment; tell whether it came so far."""
    interrupts: list[int] = []

    def interrupt() -> None:
        interrupts.append(moment)
        raise KeyboardInterrupt

    try:
        is_signalled(call, moment, interrupt)
    except KeyboardInterrupt:
        assert interrupts
        return True
    return False


def is_signalled(call: Callable[[], object], moment: int, handler: Callable[[], object]) -> bool:
    """Call, with a signal's handler called at a moment; tell whether it came so far."""
    left = moment
    last: dict[FrameType, int] = {}

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal left
        name = frame.f_globals["__name__"]
        if not name.startswith(OURS) or name.startswith("kvdict.emulator"):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        if event == "call" or (event == "opcode" and looks(frame, last.get(frame))):
            left -= 1
            if not left:
                handler()
        if event == "opcode":
            last[frame] = frame.f_lasti
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return left <= 0


def looks(frame: FrameType, last: int | None) -> bool:
    """Tell whether it looks for signals at the end of the last instruction, and that can be shown.

    A tracer interrupts the next one, which another handler may guard.
    """
    code = frame.f_code
    if last is None or dis.opname[code.co_code[last]] not in LOOKS:
        return False
    return guard(code, last) == guard(code, frame.f_lasti)


@cache
def guard(code: CodeType, offset: int) -> int | None:
    """Return where an exception of this instruction is handled."""
    for entry in dis.Bytecode(code).exception_entries:  # type: ignore[attr-defined]  # it has
        if entry.start <= offset < entry.end:
            return int(entry.target)
    return None


def is_free(lock: Any) -> bool:
    """Tell whether another thread can take the lock, now or soon."""
    taken: list[bool] = []

    def take() -> None:
        taken.append(lock.acquire(timeout=5))
        if taken[0]:
            lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return taken[0]
