"""A receiver of webhooks for the load `notified`: it takes each request, or never answers one.

Run as ``python -m benchmarks.subjects.receiver PORT takes|hangs``. It reads as little as it can.
"""

import contextlib
import socket
import sys
import threading

_TAKEN = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"


def _take(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65_536)
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += connection.recv(65_536)
        connection.sendall(_TAKEN)


def main() -> None:
    """Serve until the process is ended."""
    server = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=100)
    hung = []
    while True:
        connection, _ = server.accept()
        if sys.argv[2] == "hangs":
            hung.append(connection)
        else:
            threading.Thread(target=_take, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
