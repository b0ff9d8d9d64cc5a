"""A fast little HTTP server: what stands behind every tunnel that is measured.

It runs as `python -m runicorn viewer … --port N` of a stand-in environment, so that our server, the
peer and `ssh -L` can all lead to it. Standard library only; one thread, and one more for each bulk answer.

    GET /bulk/BYTES   that many bytes, then the end      GET /once   1 kB, then the end
    GET /anything     1 kB of JSON, keep-alive
"""

import select
import socket
import sys
import threading

BLOCK = memoryview(bytes(1 << 20))
BODY = b'{"status": "ok", "version": "0.7.2", "padding": "' + b"x" * 973 + b'"}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(BODY)
# Head and body are two writes, as most servers send them: where somebody on the way waits to fill a
# packet, it shows.
KEPT = (HEAD + b"\r\n", BODY)
LAST = (HEAD + b"Connection: close\r\n\r\n", BODY)


def send_bulk(sock, count):
    try:
        sock.setblocking(True)
        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % count)
        while count:
            count -= sock.send(BLOCK[: min(count, len(BLOCK))])
    except OSError:
        pass
    finally:
        sock.close()


def answer(sock, parts):
    for part in parts:
        sock.sendall(part)


def main(port):
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    listener.setblocking(False)
    poll = select.epoll() if hasattr(select, "epoll") else select.poll()
    poll.register(listener.fileno(), select.POLLIN)
    socks = {}

    def forget(number):
        poll.unregister(number)
        return socks.pop(number)

    while True:
        for number, _events in poll.poll():
            if number == listener.fileno():
                try:
                    while True:
                        sock, _ = listener.accept()
                        sock.setblocking(False)
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        socks[sock.fileno()] = sock
                        poll.register(sock.fileno(), select.POLLIN)
                except BlockingIOError:
                    continue
            sock = socks[number]
            try:
                request = sock.recv(65536)
                if request.startswith(b"GET /bulk/"):
                    count = int(request[10 : request.index(b" ", 10)])
                    forget(number)
                    threading.Thread(target=send_bulk, args=(sock, count), daemon=True).start()
                elif request.startswith(b"GET /once"):
                    answer(sock, LAST)
                    forget(number).close()
                elif request:
                    close = b"onnection: close" in request
                    answer(sock, LAST if close else KEPT)
                    if close:
                        forget(number).close()
                else:
                    forget(number).close()
            except OSError:
                forget(number).close()


if __name__ == "__main__":
    main(int(sys.argv[sys.argv.index("--port") + 1]))
