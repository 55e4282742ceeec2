"""Clear: delete all keys of a namespace, as long work that tells how far it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from kvdict.transfer.namespaces import KV
from kvdict.transfer.report import OnProgress, Report, Stop
from kvdict.transfer.state import State
from kvdict.transfer.work import Work


def clear(
    kv: KV, prefix: str = "", *, progress: OnProgress | None = None, stop: Stop | None = None
) -> Report:
    """Delete all keys, or those that begin with a prefix: n / 1000 + n / 10,000 requests.

    What `kv.clear()` does, with progress and a way to stop; `done` counts the deleted keys.
    """
    kv._check_writable()
    kv.flush()
    work = Work([kv], State(None, {}), progress=progress, stop=stop)
    work.verb = "deleted"
    lock = threading.Lock()

    def fulls() -> Iterator[str]:
        for key in kv.scan(prefix):
            work.check_stop()
            yield kv.prefix + key.name

    def accepted(keys: list[str]) -> None:
        with lock:  # several may be accepted at the same time
            work.done += len(keys)
            work.tell()

    with work.under_way():
        kv._backing.writes.remove_many(fulls(), accepted)
    return work.report()
