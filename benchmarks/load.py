"""A load generator that costs little: as many requests in flight as connections, or a fixed rate.

Prints a JSON line: requests a second, latencies in milliseconds (two percentiles, and all of them
in ascending order), statuses. With a rate, a latency
counts from the moment at which the request was due: a service that is late cannot hide it.
"""

import argparse
import json
import selectors
import socket
import time
from collections import deque
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("body", type=Path)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rate", type=float, default=0, help="requests a second; 0: no pause")
    given = parser.parse_args()
    body = given.body.read_bytes()
    request = (
        f"POST {given.path} HTTP/1.1\r\nHost: 127.0.0.1:{given.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    selector = selectors.DefaultSelector()
    started: dict[int, float] = {}
    pending: dict[int, bytes] = {}
    free: deque[socket.socket] = deque()
    for _ in range(given.connections):
        connection = socket.create_connection(("127.0.0.1", given.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ, connection)
        free.append(connection)
    latencies: list[float] = []
    statuses: dict[str, int] = {}
    now = begin = due = time.perf_counter()
    deadline = begin + given.seconds
    while now < deadline:
        while free and (due <= now or not given.rate):
            connection = free.popleft()
            started[connection.fileno()] = due if given.rate else now
            connection.sendall(request)
            due += 1 / given.rate if given.rate else 0
        wait = min(1, max(0, due - now)) if given.rate and free else 1
        for key, _ in selector.select(wait):
            connection, number = key.data, key.fd
            received = connection.recv(1 << 20)
            now = time.perf_counter()
            if not received:
                statuses["closed"] = statuses.get("closed", 0) + 1
                selector.unregister(connection)
                continue
            answer = pending.pop(number, b"") + received
            if not _complete(answer):
                pending[number] = answer
                continue
            status = answer[9:12].decode()
            statuses[status] = statuses.get(status, 0) + 1
            latencies.append(now - started[number])
            free.append(connection)
        now = time.perf_counter()
        if not selector.get_map():
            break
    latencies.sort()
    n = len(latencies)
    print(
        json.dumps(
            {
                "rps": n / (now - begin),
                "p50": 1000 * latencies[n // 2] if n else None,
                "p99": 1000 * latencies[int(n * 0.99)] if n else None,
                "statuses": statuses,
                "latencies": [round(1000 * latency, 3) for latency in latencies],
            }
        )
    )


def _complete(answer: bytes) -> bool:
    head, separator, rest = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    lower = head.lower()
    at = lower.find(b"content-length:")
    if at < 0:
        return rest.endswith(b"0\r\n\r\n")
    return len(rest) >= int(lower[at + 15 :].split(b"\r\n")[0])


if __name__ == "__main__":
    main()
