"""Films dropped on a page that runs without a browser."""

from unittest.mock import patch

from streamlit.testing.v1 import AppTest

from cxr_core.ui import arrivals
from cxr_core.ui.arrivals import Upload


def drop(page: AppTest, *files: tuple[str, bytes]) -> AppTest:
    """Have the page run with files that came since."""
    came = [Upload(name, data) for name, data in files]

    def collect(_: str) -> list[Upload]:
        taken = came[:]
        came.clear()
        return taken

    with patch.object(arrivals, "collect", collect):
        return page.run()


def asks_for_films(page: AppTest) -> bool:
    """Whether films can be dropped on it."""
    mounted = [one.proto.component_name for one in page.get("bidi_component")]
    return "cxr_intake" in mounted
