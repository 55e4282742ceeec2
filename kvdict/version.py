"""The version, where setup.cfg and the User-Agent find it without importing anything else."""

__version__ = "0.1.0"
