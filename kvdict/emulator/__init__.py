"""The service in this process, or on a local port: Cloudflare Workers KV over SQLite."""

from kvdict.emulator.adapter import EmulatorAdapter
from kvdict.emulator.app import Emulator
from kvdict.emulator.files import StoreError
from kvdict.emulator.knobs import Fault, Knobs
from kvdict.emulator.server import Server, serve
from kvdict.emulator.store import Store

__all__ = [
    "Emulator",
    "EmulatorAdapter",
    "Fault",
    "Knobs",
    "Server",
    "Store",
    "StoreError",
    "serve",
]
