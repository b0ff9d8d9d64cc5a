"""A fast little HTTP server: what stands behind every tunnel that is measured.

It runs as `python -m runicorn viewer … --port N` of a stand-in environment, so that our server, the
peer and `ssh -L` can all lead to it. Standard library only; one thread, and one more for each transfer.

    GET /bulk/BYTES    so many bytes: BLOCK again and again      GET /once   1 kB, then the end
    GET /anything      1 kB of JSON, keep-alive
    POST /sink/BYTES   reads so many bytes, then as /once
    POST /digest       reads until its client ends, answers the length and SHA-256 of what it read
    POST /late/NAME    answers and ends at once, reads on; GET /seen/NAME: length and SHA-256, or `wait`
"""

import hashlib
import random
import select
import socket
import sys
import threading

# No two parts of it are the same, so that bytes that went astray are noticed.
BLOCK = memoryview(random.Random(1).getrandbits(8 << 20).to_bytes(1 << 20, "little"))
BODY = b'{"status": "ok", "version": "0.7.2", "padding": "' + b"x" * 973 + b'"}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(BODY)
# Head and body are two writes, as most servers send them: where somebody on the way waits to fill a
# packet, it shows.
KEPT = (HEAD + b"\r\n", BODY)
LAST = (HEAD + b"Connection: close\r\n\r\n", BODY)
LATE = b"read on"


def send_bulk(sock, request):
    count = int(request.split()[1].rpartition(b"/")[2])
    sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % count)
    while count:
        count -= sock.send(BLOCK[: min(count, len(BLOCK))])


def swallow(sock, request):
    head, _, body = request.partition(b"\r\n\r\n")
    left = int(head.split()[1].rpartition(b"/")[2]) - len(body)
    buffer = bytearray(1 << 20)
    while left > 0:
        count = sock.recv_into(buffer)
        if not count:
            return
        left -= count
    answer(sock, LAST)


def fingerprint(sock, begin):
    """-> length and SHA-256 of `begin` and all that comes."""
    digest, length = hashlib.sha256(begin), len(begin)
    while True:
        data = sock.recv(1 << 20)
        if not data:
            return b"%d %s" % (length, digest.hexdigest().encode())
        digest.update(data)
        length += len(data)


def digest(sock, request):
    sock.sendall(fingerprint(sock, request.partition(b"\r\n\r\n")[2]))


def read_late(sock, request, seen):
    head, _, body = request.partition(b"\r\n\r\n")
    sock.sendall(LATE)
    sock.shutdown(socket.SHUT_WR)
    seen[head.split()[1].rpartition(b"/")[2]] = fingerprint(sock, body)


def answer(sock, parts):
    for part in parts:
        sock.sendall(part)


def in_thread(serve, sock, *more):
    def run():
        try:
            sock.setblocking(True)
            serve(sock, *more)
        except OSError:
            pass
        finally:
            sock.close()

    threading.Thread(target=run, daemon=True).start()


def main(port):
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    listener.setblocking(False)
    poll = select.epoll() if hasattr(select, "epoll") else select.poll()
    poll.register(listener.fileno(), select.POLLIN)
    socks = {}
    seen = {}

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
                    in_thread(send_bulk, forget(number), request)
                elif request.startswith(b"POST /sink/"):
                    in_thread(swallow, forget(number), request)
                elif request.startswith(b"POST /digest"):
                    in_thread(digest, forget(number), request)
                elif request.startswith(b"POST /late/"):
                    in_thread(read_late, forget(number), request, seen)
                elif request.startswith(b"GET /seen/"):
                    sock.sendall(seen.get(request.split()[1].rpartition(b"/")[2], b"wait"))
                    forget(number).close()
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
