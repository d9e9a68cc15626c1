"""What may go wrong in the demo and is the user's or the machine's to mend; shown as a message, without a traceback."""

from __future__ import annotations


class DemoError(Exception):
    """The demo cannot go on. The message says what was expected, what arrived and what to do."""
