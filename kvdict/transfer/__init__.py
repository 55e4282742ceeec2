"""Move data: between a namespace and files, and between namespaces.

>>> import io, kvdict
>>> from kvdict import transfer
>>> kv, file = kvdict.open("memory://", codec="text"), io.BytesIO()
>>> kv["greeting"] = "hello"
>>> transfer.export(kv, file).done
1
>>> file.getvalue()
b'{"key":"greeting","value":"hello"}\\n'

Pairs travel as they are stored, whatever codec the namespace was opened with: value (bytes),
metadata and expiration. Memory is flat: a million keys take no more than ten thousand.

All functions take `progress`, called with a `Progress` after each step, and `stop`, asked between
requests: once it returns True the requests under way end, the state is saved and the report says
what is done. A KeyboardInterrupt, or any error, leaves a state to go on from as well.
"""

from kvdict.transfer.comparing import diff
from kvdict.transfer.copying import copy
from kvdict.transfer.exporting import export
from kvdict.transfer.formats import Format, SourceFormat
from kvdict.transfer.importing import import_
from kvdict.transfer.interrupts import Interrupts
from kvdict.transfer.pace import seconds_for
from kvdict.transfer.paths import state_of
from kvdict.transfer.report import Difference, LeftOut, Progress, Report, SyncReport
from kvdict.transfer.syncing import sync

__all__ = [
    "Difference",
    "Format",
    "Interrupts",
    "LeftOut",
    "Progress",
    "Report",
    "SourceFormat",
    "SyncReport",
    "copy",
    "diff",
    "export",
    "import_",
    "seconds_for",
    "state_of",
    "sync",
]
