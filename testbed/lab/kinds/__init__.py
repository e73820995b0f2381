"""How nodes of each kind are built; kinds that need only a namespace have no module here."""

from testbed.lab.kinds.registry import ENTRY_POINTS, builder_of, builds

__all__ = ["ENTRY_POINTS", "builder_of", "builds"]
