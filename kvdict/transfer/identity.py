"""Which namespace it is, by whatever WHERE it was opened."""

from __future__ import annotations

import os
from urllib.parse import unquote

from kvdict.errors import TransferError
from kvdict.transfer.namespaces import KV


def identity(kv: KV) -> str:
    """Return a text that is the same for the same namespace, and without secrets."""
    home = kv._backing.home
    place = home.place if home.local else f"{kv.client.transport.base_url}/{kv.client.account_id}"
    scheme, slashes, path = place.partition(":///")
    if slashes and scheme == "sqlite":
        place = f"sqlite:///{os.path.realpath(unquote(path))}"
    if place == "memory://":  # private: another one each time
        place = f"memory://#{id(home)}"
    return f"{place}/{kv.id}"


def check_apart(source: KV, target: KV, prefix: str = "") -> None:
    """Raise TransferError if what is read and what is written may be the same pairs."""
    if identity(source) != identity(target):
        return
    read, written = source.prefix + prefix, target.prefix + prefix
    if read.startswith(written) or written.startswith(read):
        raise TransferError(
            f"source and target are the same: {target!r}; name two namespaces, or two prefixes"
            " of which neither begins with the other"
        )
