"""What every test may rely on, however the suite was started."""

from __future__ import annotations

import signal

# Shells start what they leave in the background with the interrupt ignored, and so would be all
# programs of the tests that are interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
