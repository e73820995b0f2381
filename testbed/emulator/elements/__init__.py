"""One impairment per module, as an element of a chain."""
