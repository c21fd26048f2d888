"""The application: a local server and the pages in which people look, hear, name, correct and search.

`security` decides who may ask, `session` holds the run, `api` answers, `media`, `makers` and `workshop` give what is
seen and heard, `server` puts it together. `exploring` goes from a folder of videos to the open page.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional

from seehear.commands import command
from seehear.errors import UsageError
from seehear.options import OutFile, Run, Settings, Workers, option

if TYPE_CHECKING:
    MediaFolder = str | Path
else:
    MediaFolder = Annotated[
        Positional[str],
        option("A folder of videos (any depth), a glob, or a CSV or Parquet with a `path` column.", metavar="VIDEOS"),
    ]

Port = Annotated[int | None, option("Port to listen on, 0 for any; 8765 or the next free one by default.")]
OpenBrowser = Annotated[
    bool,
    option("Open the page in a browser, where there is a display; the address is printed in any case.", name="open"),
]


@command("serve", group="look", example="seehear serve runs/a")
def serve(
    run: Run,
    *,
    port: Port = None,
    open_browser: OpenBrowser = True,
    by: Literal["both", "video", "audio"] = "both",
    host: str = "127.0.0.1",
    cache_gib: float = 2.0,
) -> None:
    """Look through a run in the browser: see and hear its clusters, name and correct them, search, export.

    Prints one line with the address, which holds the key of this start, and serves until Ctrl-C or SIGTERM. A run
    without an index gets one of its own clips; `seehear index` makes one of segments.

    Args:
        by: The labelling that is shown first: by sight and sound, by sight, or by sound.
        host: Address to listen on. Anything but 127.0.0.1 lets others on the network reach the page; the key stays
            needed, but travels unencrypted.
        cache_gib: How much of the disk thumbnails and copies may take; the longest unused go first.

    Raises:
        UsageError: the port is taken, or the run has no such labelling.
        RunError: the folder is not a run, or not a finished one.
    """
    from seehear.app.server import check_address, run_server
    from seehear.app.session import Session

    if not cache_gib > 0:
        raise UsageError("the cache needs some room", "--cache-gib 2")
    check_address(host, port)
    session = Session(run, by=by, cache_bytes=round(cache_gib * 2**30))
    run_server(session, host=host, port=port, open_browser=open_browser)


@command("explore", group="start", example="seehear explore VIDEOS", python_only=("settings",))
def explore(
    videos: MediaFolder,
    *,
    out: OutFile = None,
    port: Port = None,
    open_browser: OpenBrowser = True,
    workers: Workers = None,
    settings: Settings = (),
) -> None:
    """From a folder of videos to their clusters in the browser: scan, learn, label, index, serve.

    Everything is chosen by the number of videos and the machine. Stopped at any moment, the same command goes on; what
    is done is not done again, and videos that were added since are put into the index.

    Args:
        out: Folder of the run; runs/NAME by default, NAME being that of the folder of videos.
        settings: Changes of what is chosen, such as "cluster.k=32"; see `seehear.pretrain`.

    Raises:
        DataError: there are too few usable videos to learn from.
        RunError: `out` holds a run of other videos, or is in use.
        Interrupted: a signal came; what was done is kept.
    """
    from seehear.app.exploring import prepare
    from seehear.app.server import check_address, run_server
    from seehear.app.session import Session

    check_address("127.0.0.1", port)  # before an hour of learning
    run = prepare(videos, out, workers=workers, settings=settings)
    run_server(Session(run), port=port, open_browser=open_browser)
