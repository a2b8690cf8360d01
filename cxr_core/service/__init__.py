"""The HTTP API: the same answers as the command line, for other programs.

settings   what the service is told at its start
limits     places, allowances, and what is said to those turned away
uploads    the films of a request, in memory
batcher    one thread for each model, which answers many requests at once
desk       models, gate and threads: a film in, an answer out
watch      numbers for Prometheus, one line for each request
schemas    what clients ask and get, as OpenAPI
routes     each address, and what it answers
app        routes, token and errors together
server     listening and stopping
"""

from cxr_core.service.app import create_app
from cxr_core.service.desk import Desk
from cxr_core.service.server import serve
from cxr_core.service.settings import Settings

__all__ = ["Desk", "Settings", "create_app", "serve"]
