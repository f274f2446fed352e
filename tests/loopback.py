"""The server on loopback that all others of the tests are made of."""

from __future__ import annotations

from http.server import ThreadingHTTPServer


class LoopbackServer(ThreadingHTTPServer):
    """Takes many calls at once. With the standard library's queue of 5, the sixth waits a second until its SYN is sent again."""

    daemon_threads = True
    request_queue_size = 128
