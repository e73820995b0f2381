"""What every test may rely on, however the suite was started and however busy the machine is."""

from __future__ import annotations

import signal

import hypothesis

# The gate tries the same examples every time, however long each takes; to look for more:
# `pytest --hypothesis-profile=search`.
hypothesis.settings.register_profile("gate", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.load_profile("gate")

# Shells start what they leave in the background with the interrupt ignored, and so would be all
# programs of the tests that are interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
