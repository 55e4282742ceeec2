"""Tests that drive transport, client and bulk work over the wire."""
