"""Topologies made of the files of other tools, and what these say that no topology can."""
