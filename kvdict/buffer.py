"""`WriteBuffer`: own writes on their way, laid over every read. It makes no requests."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from kvdict.bufferoptions import BufferOptions
from kvdict.changes import Change, Hold, Listener
from kvdict.errors import ClosedError, ConfigError
from kvdict.forks import renew_in_children
from kvdict.names import SortedNames
from kvdict.settling import Settling
from kvdict.writes import Write

OVERHEAD = 60
"""Bytes of a pair in a bulk body beside its key and value, and of a change in memory, about."""
AT_ONCE = 256
"""Own keys that a listing, or an answer, takes at a time: writers wait for the lock no longer."""
PENDING_BODIES = 8
"""How many times max_bytes may be pending before a writer waits."""


@dataclass(kw_only=True, eq=False, repr=False)  # again: an unknown option is a WriteBuffer's
class WriteBuffer(BufferOptions):
    """Own writes that are pending, sealed (being sent) or settling (accepted a short while ago).

    max_items, max_bytes: send when so many keys, or bytes, wait.
    max_age: seconds after which a write is sent in any case; a wish, the allowance may not do.
    settle: seconds for which accepted writes go on overlaying reads, because the service may still
    answer with the past; None: 60 at Cloudflare, 0 in local homes.
    settle_bytes: at most so many bytes of them, the oldest leave early.
    max_pending: keys that may wait before they are sent in any case, and a writer has to wait.
    put_timeout: seconds for which a writer waits at most; then it is a BufferFullError.
    key_interval: seconds between two writes of one key that the buffer sends; None: 1 at
    Cloudflare, 0 in local homes.
    journal: a file, or a folder for several processes, that keeps what is pending on disk. What a
    dead process left is sent by the next that opens it.
    durability: what an assignment that has returned survives then: "process", SIGKILL; "power", a
    power cut too, for an fsync each.
    journal_max_age: seconds after which what was left is reported as failed, not sent.
    write_through: send each write before the call that makes it returns; nothing is pending then.
    exit_timeout: seconds that the interpreter's exit may take to send what is left.
    on_flush(FlushResult), on_error(exception): called without locks, and may write.

    A buffer belongs to one namespace.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._enough = min(self.max_items, self.max_pending)
        self.is_taken = False
        self.overlays = True
        self.listeners: tuple[weakref.ref[Listener], ...] = ()
        self.start_again()
        renew_in_children(self)

    def check_free(self) -> None:
        """Raise ConfigError if it is a namespace's already."""
        if self.is_taken:
            raise ConfigError("this WriteBuffer belongs to another namespace; make a new one")

    def attach(self, *, local: bool) -> None:
        """Become the buffer of one namespace; ConfigError for a second one."""
        self.check_free()
        self.is_taken = True
        self.fill_in(local=local)
        self.overlays = not self.write_through or bool(self.settle)

    def listen(self, listener: Listener) -> None:
        """Tell somebody of all writes, as long as anybody else holds on to it."""
        with self.lock:
            self.listeners = tuple(map(weakref.ref, [*self._listening(), listener]))

    def touched(self, key: str) -> None:
        """Tell those who remember what was read that the key is, or may be, another now."""
        if self.listeners:
            with self.lock:
                for listener in self._listening():
                    listener.written(key)

    def start_again(self) -> None:
        """Be empty, with a lock of its own: at first, and in a forked child."""
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.pending: dict[str, Change] = {}
        self.sealed: dict[str, Change] = {}
        self.pending_bytes = 0
        self.number = 0
        self._settling = Settling()
        self._held: dict[str, Hold] = {}
        self._names = SortedNames()
        self._readers = 0
        self._takes_writes = True

    def notify(self) -> None:
        """Have those look again who wait for a change: for room, or for the end of a flush."""
        with self.lock:
            self.changed.notify_all()

    # What reads ask

    def get(self, key: str, *, listing: bool = False) -> Change | None:
        """Return the latest own change of the key, None if the service is to be asked.

        A listing goes on seeing what was settled when it began.
        """
        with self.lock:
            change = self.pending.get(key) or self.sealed.get(key)
            if change is None and key in self._settling.changes:
                self._let_go()
                settled = self._settling.changes.get(key)
                if settled and (listing or settled.until > self.clock()):
                    return settled
            return change

    def __contains__(self, key: object) -> bool:
        return key in self.pending or key in self.sealed or key in self._settling.changes

    def __len__(self) -> int:
        """Count the changes, a key that is pending and settling twice."""
        return len(self.pending) + len(self.sealed) + len(self._settling.changes)

    def __repr__(self) -> str:
        journal = f" journal={str(self.journal)!r}" if self.journal is not None else ""
        return (
            f"<WriteBuffer max_age={self.max_age:g}{journal}, {len(self.pending)} pending,"
            f" {len(self.sealed)} being sent, {len(self._settling.changes)} settling>"
        )

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep what is settled while somebody lists: what left would be missing there."""
        with self.lock:
            self._let_go()
            self._readers += 1
        try:
            yield
        finally:
            with self.lock:
                self._readers -= 1

    @property
    def settled_early(self) -> int:
        """How many settled changes have left before their time, for want of room."""
        return self._settling.early

    @property
    def is_read(self) -> bool:
        """Tell whether somebody is in the middle of a listing or a bulk read."""
        return self._readers > 0

    def names(self, after: str | None, last: str | None, prefix: str) -> Iterator[str]:
        """Yield own names behind `after`, up to `last` (None: no bound), in order, lazily."""
        while True:
            with self.lock:
                names = self._names.following(after, prefix, AT_ONCE)
            for name in names:
                if last is not None and name > last:
                    return
                yield name
            if len(names) < AT_ONCE:
                return
            after = names[-1]

    # What writes do

    def add(self, key: str, write: Write | None) -> Change:
        """Take a write, or a deletion, in place of what was pending for the key."""
        with self.lock:
            if not self._takes_writes:
                raise ClosedError("the namespace was closed; this write was not taken")
            change = self._new(key, write)
            older = self.pending.get(key)
            if older:
                change.first, change.since = older.first, older.since
                self.pending_bytes -= older.size
            self.pending[key] = change
            self.pending_bytes += change.size
            self.touched(key)
            return change

    def begin(self, key: str, write: Write | None) -> Change:
        """Take a write that is sent at once: it is sealed, and under no newer one."""
        with self.lock:
            change = self.sealed[key] = self._new(key, write)
            self.touched(key)
            return change

    def remember(self, writes: Iterable[tuple[str, Write | None]]) -> None:
        """Let writes settle that the service has taken past this buffer."""
        self.accepted(self._new(key, write) for key, write in writes)

    def replace(self, key: str, seen: Change | None, write: Write | None) -> Change | None:
        """Take the write only if the key's change is still the one that was seen, else None."""
        with self.lock:
            return self.add(key, write) if self.get(key) is seen else None

    def take_back(self, change: Change, older: Change | None) -> bool:
        """Undo the taking of a change if nothing has come of it yet; tell whether it was undone."""
        with self.lock:
            if self.pending.get(change.key) is not change:
                return False
            del self.pending[change.key]
            self.pending_bytes -= change.size
            if older:
                self.pending = {change.key: older, **self.pending}
                self.pending_bytes += older.size
            return True

    def stands_for(self, change: Change) -> bool:
        """Tell whether the change, or one in its place, is still to be accepted. Takes no lock."""
        waiting = self.pending.get(change.key), self.sealed.get(change.key)
        return any(one is not None and one.first <= change.number for one in waiting)

    def take_writes(self, willing: bool) -> None:
        """Take writes from now on, or none: while it is flushed for the last time."""
        with self.lock:
            self._takes_writes = willing

    def forget(self, key: str) -> None:
        """Believe the service about this key again, if nothing is pending for it."""
        with self.lock:
            self._settling.remove(key)

    @property
    def waiting(self) -> int:
        """Count the writes that the service has not accepted yet."""
        return len(self.pending) + len(self.sealed)

    @property
    def is_full(self) -> bool:
        """Tell whether a writer has to wait."""
        too_many = self.waiting >= self.max_pending
        return too_many or self.pending_bytes >= PENDING_BODIES * self.max_bytes

    @property
    def is_due(self) -> bool:
        """Tell whether enough is pending to be sent at once: to fill a request, or the buffer."""
        return len(self.pending) >= self._enough or self.pending_bytes >= self.max_bytes

    # What the flusher does

    def due_in(self) -> float | None:
        """Return the seconds until something is to be sent, None if nothing is pending."""
        with self.lock:
            if not self.pending:
                return None
            if self.is_due:
                return 0.0
            oldest = next(iter(self.pending.values()))
            return max(0.0, oldest.since + self.max_age - self.clock())

    def seal(self, *, everything: bool) -> list[Change]:
        """Take what can be sent now: not a key that is being sent, or was a moment ago.

        Unless `everything`, what does not fill a request waits for more if others do.
        """
        now = self.clock()
        with self.lock:
            self._let_go()
            self._held = {key: hold for key, hold in self._held.items() if hold.until > now}
            ready = [change for change in self.pending.values() if self._may_go(change)]
            if not everything and len(ready) > self.max_items:
                del ready[len(ready) // self.max_items * self.max_items :]
            for change in ready:
                self._seal_one(change)
            self._names.sort()
            return ready

    def held_for(self) -> float:
        """Return the seconds until the first of the pending keys that are held may be sent."""
        now = self.clock()
        least = math.inf
        with self.lock:
            for key, change in self.pending.items():
                if self._may_go(change):
                    return 0.0
                hold = self._held.get(key)
                least = min(least, hold.until if hold else now)
        return max(0.0, least - now) if least < math.inf else 0.0

    def accepted(
        self,
        changes: Iterable[Change],
        keep_for: Callable[[Change], float] | None = None,
        hold_for: float = 0.0,
    ) -> None:
        """Let sealed changes settle; the next write of their keys waits for the interval.

        `hold_for` stands in for a shorter interval, `keep_for` of each for a shorter settling.
        """
        interval, settle = max(self.key_interval or 0.0, hold_for), self.settle or 0.0
        rest = iter(changes)
        while some := list(islice(rest, AT_ONCE)):
            now = self.clock()
            hold = Hold(now + interval)
            with self.lock:
                for change in some:
                    if interval:
                        self._held[change.key] = hold
                    longer = keep_for(change) if keep_for else 0.0
                    self._settling.add(change, now + max(settle, longer))
                    self._unseal(change)
                for listener in self._listening():
                    for change in some:
                        listener.accepted(change)
                if not settle or self._settling.size > self.settle_bytes:
                    self._let_go()

    def give_back(self, changes: Iterable[Change], *, unknown_for: float = 0.0) -> None:
        """Make sealed changes pending again, unless a newer write of the key has come.

        Where their outcome is unknown, only the very same write may be sent in the next
        `unknown_for` seconds: another one might be overtaken by it at the service.
        """
        with self.lock:
            back = {}
            for change in changes:
                newer = self.pending.pop(change.key, None)
                if newer:
                    newer.first, newer.since = change.first, change.since
                else:
                    self.pending_bytes += change.size
                back[change.key] = newer or change
                if unknown_for:
                    self._held[change.key] = Hold(self.clock() + unknown_for, change.number)
            self.pending = back | self.pending
            for key in back:  # last: whoever looks without the lock finds it in one of the two
                del self.sealed[key]
            self.changed.notify_all()

    def drop(self, change: Change) -> None:
        """Let a sealed change go that will not be sent: the service is believed again."""
        with self.lock:
            self._unseal(change)
            self.touched(change.key)

    def waiting_up_to(self, number: int) -> list[str]:
        """Return the keys of which a write up to this number is not accepted yet."""
        with self.lock:
            both = [*self.sealed.values(), *self.pending.values()]
            return list(dict.fromkeys(change.key for change in both if change.first <= number))

    def _new(self, key: str, write: Write | None) -> Change:
        size = len(key) + (len(write.data) if write else 0) + OVERHEAD
        with self.lock:
            self.number += 1
            self._names.add(key)
            return Change(key, write, self.number, self.number, self.clock(), size)

    def _listening(self) -> list[Listener]:
        return [listener for known in self.listeners if (listener := known()) is not None]

    def _unseal(self, change: Change) -> None:
        if self.sealed.get(change.key) is change:
            del self.sealed[change.key]

    def _may_go(self, change: Change) -> bool:
        if change.key in self.sealed:
            return False
        hold = self._held.get(change.key)
        return hold is None or hold.number == change.number

    def _seal_one(self, change: Change) -> None:
        self.sealed[change.key] = change
        del self.pending[change.key]
        self.pending_bytes -= change.size

    def _let_go(self) -> None:
        """Let settled changes leave whose time is over, and names that nothing is known of."""
        self._settling.let_go(
            self.clock(), self.settle or 0.0, self.settle_bytes, is_read=self.is_read
        )
        self._names.keep(self, len(self))
