"""One worker of the site: prints its port, and serves until its standard input ends."""

import os
import sys
import threading
from wsgiref.simple_server import WSGIRequestHandler, make_server

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


os.environ["DJANGO_SETTINGS_MODULE"] = "tests.contrib.django_project.settings"
application = get_wsgi_application()
call_command("migrate", verbosity=0)
server = make_server("127.0.0.1", 0, application, handler_class=Quiet)
print(server.server_port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
