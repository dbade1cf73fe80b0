"""The laboratory: real GlusterFS hosts as namespaces on one machine. ``python -m tests.lab --help``."""

from tests.lab.pool import Lab, LabHost
from tests.lab.system import LabError, missing

__all__ = ["Lab", "LabError", "LabHost", "missing"]
