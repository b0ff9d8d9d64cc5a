"""For any WSGI server: `waitress-serve --listen=127.0.0.1:23300 wsgi:app`.

One process only (sessions live in memory), with threads.
"""

from runicorn_remote.server import wsgi_app

app = wsgi_app()
