"""Network emulation testbed: real Linux TCP through lossy links and misbehaving middleboxes."""

__version__ = "0.1.0"
