"""What runs in the child process that fetches weights; it tells each event as a line of JSON.

It is a process of its own for two reasons. A checkpoint whose sha256 nobody has published is opened
to be judged, and that needs torch, which the process that answers requests never loads. And it can
be killed at any moment, also while a host says nothing: what has come is kept.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from longtake.core.errors import LongtakeError, in_words
from longtake.core.plain import to_plain
from longtake.weights.catalog import model
from longtake.weights.pull import Source, pull


def main(argv: list[str]) -> int:
    """NAME FOLDER ORIGIN. What goes wrong is told as the event `Failed`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the parent as well
    threading.Thread(target=_end_with_parent, daemon=True).start()
    name, folder, origin = argv
    try:
        for event in pull(model(name), Path(folder), Source.of(origin)):
            _tell(to_plain(event))
    except BrokenPipeError:  # nobody listens any more
        os._exit(1)
    except Exception as error:  # noqa: BLE001 -- the parent tells whoever asked
        if not isinstance(error, (LongtakeError, OSError)):
            traceback.print_exc()
        _tell({"is": "Failed", "error": in_words(error)[1]})
        return 1
    return 0


def _tell(event: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    """The parent holds the other end of standard input; the system closes it when it dies."""
    while os.read(0, 1):  # not by sys.stdin, which a thread must not hold when Python ends
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
