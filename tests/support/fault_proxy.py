"""An HTTP/1.1 proxy in front of a real server that makes chosen answers go wrong, and keeps a list of what it did.

    proxy = FaultProxy(upstream_port)
    with proxy:
        proxy.rules.append(Rule(Fault.STATUS, where=r"/c/", status=503, retry_after="1", times=3))
        ...
        proxy.injected                      # [Injected(fault=..., path=..., range=...), ...]

Rules are asked in order; the first that matches and is not used up decides about a request. `latency` applies to all requests, those of
rules too. It runs in a thread of its own with an event loop of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class Fault(enum.Enum):
    STATUS = "answers `status`, with Retry-After if `retry_after` is given"
    RESET = "resets the connection behind `at` bytes of the body (None: before the answer)"
    TRUNCATE = "closes the connection in good order behind `at` bytes of a body that was promised to be longer"
    SHORT_LENGTH = "promises and delivers `at` bytes less than the range has, as if all was well"
    WRONG_RANGE = "Content-Range says another place than was asked"
    WHOLE = "200 with the whole object, though a range was asked"
    ETAG = "another ETag than the object has"
    HANG = "takes the request and never answers"
    SLOW = "`rate` bytes a second"
    STALL = "stops behind `at` bytes of the body for ever"
    REDIRECT = "302 to `location`"
    GARBAGE = "an answer that is no HTTP"
    HUGE_HEADER = "header lines without end"
    HUGE_LINE = "one header line without end"
    CORRUPT = "one bit of the body is wrong"


@dataclass
class Rule:
    fault: Fault
    where: str = ""  # searched in the path with its query
    chance: float = 1.0
    times: int | None = None  # so many answers, then no more; None: always
    once_each: bool = False  # at most once for each path and range
    skip: int = 0  # the first so many that match are let through
    status: int = 503
    retry_after: str | None = None
    at: int | None = None
    rate: int = 1000
    location: str = ""
    needs_range: bool = False
    body: bytes = b""
    seen: set[tuple[str, str]] = field(default_factory=set)
    matched: int = 0


# What another request mends.
PASSING: list[dict[str, Any]] = [
    {"fault": Fault.STATUS, "status": 503},
    {"fault": Fault.RESET},
    {"fault": Fault.RESET, "at": 700},
    {"fault": Fault.TRUNCATE, "at": 300},
    {"fault": Fault.SHORT_LENGTH, "at": 5, "needs_range": True},
    {"fault": Fault.WHOLE, "needs_range": True},
]


def by_chance(kinds: list[dict[str, Any]], chance: float) -> list[Rule]:
    """Each of them is met once, however few requests there are, and by chance from then on."""
    return [Rule(times=1, **kind) for kind in kinds] + [Rule(chance=chance, **kind) for kind in kinds]


@dataclass(frozen=True)
class Injected:
    fault: Fault
    method: str
    path: str
    range: str
    status: int


@dataclass
class Answer:
    status: int
    reason: str
    headers: list[tuple[str, str]]

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    def set(self, name: str, value: str) -> None:
        self.headers = [(key, text) for key, text in self.headers if key.lower() != name.lower()] + [(name, value)]

    def encode(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {self.reason}", *(f"{key}: {value}" for key, value in self.headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Dropped(Exception):
    """The connection to the client has to go."""


def lognormal_latency(median_s: float, sigma: float = 0.3, tail: float = 0.01, factor: float = 10.0, seed: int = 1) -> Callable[[], float]:
    """Seconds to the first byte, drawn anew for each request: log-normal, and a share of `tail` `factor` times as long."""
    rng = random.Random(seed)

    def draw() -> float:
        seconds = median_s * rng.lognormvariate(0, sigma)
        return seconds * factor if rng.random() < tail else seconds

    return draw


class FaultProxy:
    def __init__(self, upstream_port: int, latency: Callable[[], float] | None = None, rate: int | None = None, seed: int = 1) -> None:
        self.upstream_port = upstream_port
        self.latency = latency
        self.rate = rate  # bytes a second of each connection
        self.rules: list[Rule] = []
        self.injected: list[Injected] = []
        self.requests: list[tuple[str, str, str, int]] = []  # method, path, range, status
        self.in_flight = 0
        self.in_flight_max = 0
        self.body_bytes = 0
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.tasks: set[asyncio.Task] = set()
        self.port = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> FaultProxy:
        started = threading.Event()
        self.loop = asyncio.new_event_loop()

        def run() -> None:
            asyncio.set_event_loop(self.loop)
            self.server = self.loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=1024, limit=1 << 18))
            self.port = self.server.sockets[0].getsockname()[1]
            started.set()
            self.loop.run_forever()
            self.server.close()
            for task in self.tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*self.tasks, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

        self.thread = threading.Thread(target=run, name="fault-proxy", daemon=True)
        self.thread.start()
        if not started.wait(200):
            raise RuntimeError("the fault proxy does not start")
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    def count(self, fault: Fault) -> int:
        with self.lock:
            return sum(each.fault is fault for each in self.injected)

    # --- one connection -----------------------------------------------------------------------------------------------

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self.tasks.add(task)
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while True:
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                except (asyncio.IncompleteReadError, ConnectionError):
                    return
                self.in_flight += 1
                self.in_flight_max = max(self.in_flight_max, self.in_flight)
                try:
                    if upstream is None or upstream[1].is_closing():
                        upstream = await asyncio.open_connection("127.0.0.1", self.upstream_port, limit=1 << 18)
                    await self.exchange(head, upstream, writer)
                finally:
                    self.in_flight -= 1
        except (Dropped, asyncio.CancelledError):
            pass
        except (ConnectionError, asyncio.IncompleteReadError, OSError):
            with contextlib.suppress(Exception):  # the server went away: so do we
                self.reset(writer)
        finally:
            self.tasks.discard(task)
            for each in (writer, upstream[1] if upstream else None):
                if each is not None:
                    with contextlib.suppress(Exception):
                        each.close()

    def choose(self, method: str, path: str, wanted: str) -> Rule | None:
        with self.lock:
            for rule in self.rules:
                if not re.search(rule.where, path) or (rule.needs_range and not wanted):
                    continue
                if rule.times is not None and rule.times <= 0:
                    continue
                if rule.once_each and (path, wanted) in rule.seen:
                    continue
                rule.matched += 1
                if rule.matched <= rule.skip or (rule.chance < 1 and self.random.random() >= rule.chance):
                    continue
                rule.seen.add((path, wanted))
                if rule.times is not None:
                    rule.times -= 1
                return rule
        return None

    def note(self, rule: Rule, method: str, path: str, wanted: str, status: int) -> None:
        with self.lock:
            self.injected.append(Injected(rule.fault, method, path, wanted, status))

    @staticmethod
    def reset(writer: asyncio.StreamWriter) -> None:
        """RST instead of FIN."""
        connection = writer.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def exchange(self, head: bytes, upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter], writer: asyncio.StreamWriter) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        wanted = headers.get("range", "")
        rule = self.choose(method, path, wanted)
        if self.latency:
            await asyncio.sleep(self.latency())
        if rule:
            await self.before(rule, method, path, wanted, writer)
        if rule and rule.fault is Fault.WHOLE:
            head = re.sub(rb"(?im)^range:[^\r]*\r\n", b"", head)
        upstream[1].write(head)
        await upstream[1].drain()
        answer = await self.read_answer(upstream[0])
        length = int(answer.get("content-length") or 0)
        with self.lock:
            self.requests.append((method, path, wanted, answer.status))
        if answer.get("transfer-encoding") or answer.get("content-length") is None:
            body = b"" if method == "HEAD" else await self.read_chunked(upstream[0]) if answer.get("transfer-encoding") else b""
            answer.headers = [(k, v) for k, v in answer.headers if k.lower() != "transfer-encoding"]
            answer.set("Content-Length", str(len(body)))
            writer.write(answer.encode() + body)
            await writer.drain()
            return
        if method == "HEAD" or answer.status in (204, 304):
            length = 0
        rate, cut, fault = self.rate, None, rule.fault if rule else None
        flip = -1
        if rule and answer.status < 300:
            self.note(rule, method, path, wanted, answer.status)
            at = rule.at if rule.at is not None else length // 2
            if fault is Fault.WRONG_RANGE and answer.get("content-range"):
                begin, end, size = map(int, re.findall(r"\d+", answer.get("content-range") or ""))
                shift = -1 if begin else 1
                answer.set("Content-Range", f"bytes {begin + shift}-{end + shift}/{size}")
            elif fault is Fault.ETAG:
                answer.set("ETag", f'"changed-{self.random.getrandbits(64):x}"')
            elif fault is Fault.SHORT_LENGTH:
                cut = max(0, length - (rule.at or 1))
                answer.set("Content-Length", str(cut))
            elif fault in (Fault.RESET, Fault.TRUNCATE, Fault.STALL):
                cut = min(at, max(0, length - 1))
            elif fault is Fault.SLOW:
                rate = rule.rate
            elif fault is Fault.CORRUPT and length:
                flip = min(at, length - 1)
        writer.write(answer.encode())
        done = 0
        limit = length if cut is None else cut
        while done < limit:
            piece = await upstream[0].read(min(limit - done, 65536 if rate is None else max(1, rate // 20)))
            if not piece:
                raise ConnectionError("the server ended early")
            if done <= flip < done + len(piece):
                changed = bytearray(piece)
                changed[flip - done] ^= 0x20
                piece = bytes(changed)
            done += len(piece)
            self.body_bytes += len(piece)
            writer.write(piece)
            await writer.drain()
            if rate is not None:
                await asyncio.sleep(len(piece) / rate)
        if cut is None:
            return
        await writer.drain()
        if fault is Fault.RESET:
            await asyncio.sleep(0.02)  # what was sent before an RST may be lost with it
            self.reset(writer)
            raise Dropped
        if fault is Fault.STALL:
            await asyncio.sleep(3600)
        if fault is Fault.SHORT_LENGTH:  # the rest is still in the pipe
            upstream[1].close()
            return
        raise Dropped

    async def before(self, rule: Rule, method: str, path: str, wanted: str, writer: asyncio.StreamWriter) -> None:
        """Faults that need no answer of the server. Raises Dropped, or returns to go on."""
        fault = rule.fault
        if fault is Fault.STATUS or fault is Fault.REDIRECT:
            self.note(rule, method, path, wanted, rule.status if fault is Fault.STATUS else 302)
            answer = Answer(rule.status if fault is Fault.STATUS else 302, "Injected", [("Content-Length", str(len(rule.body)))])
            answer.set("Connection", "close")  # else the next question may meet the end of it, which counts as a retry, too
            if rule.retry_after is not None:
                answer.set("Retry-After", rule.retry_after)
            if fault is Fault.REDIRECT:
                answer.set("Location", rule.location.replace("{path}", path))
            writer.write(answer.encode() + (b"" if method == "HEAD" else rule.body))
            await writer.drain()
            raise Dropped
        if fault is Fault.HANG:
            self.note(rule, method, path, wanted, 0)
            await asyncio.sleep(3600)
        if fault is Fault.GARBAGE:
            self.note(rule, method, path, wanted, 0)
            writer.write(b"\x00\xff this is no answer \r\n\r\n")
            await writer.drain()
            raise Dropped
        if fault in (Fault.HUGE_HEADER, Fault.HUGE_LINE):
            self.note(rule, method, path, wanted, 0)
            writer.write(b"HTTP/1.1 200 OK\r\nX-Filler: ")
            with contextlib.suppress(ConnectionError):
                for _ in range(2000):
                    writer.write(b"x" * 8000 + (b"\r\nX-Filler: " if fault is Fault.HUGE_HEADER else b""))
                    await writer.drain()
            raise Dropped
        if fault is Fault.RESET and rule.at is None:
            self.note(rule, method, path, wanted, 0)
            self.reset(writer)
            raise Dropped

    @staticmethod
    async def read_answer(reader: asyncio.StreamReader) -> Answer:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.split("\r\n")
            _, status, *reason = first.split(" ", 2)
            if int(status) != 100:
                pairs = [line.partition(":") for line in lines if line]
                return Answer(int(status), reason[0] if reason else "", [(name, value.strip()) for name, _, value in pairs])

    @staticmethod
    async def read_chunked(reader: asyncio.StreamReader) -> bytes:
        body = b""
        while True:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
            body += await reader.readexactly(size)
            await reader.readuntil(b"\r\n")
            if size == 0:
                return body


# --- credentials ------------------------------------------------------------------------------------------------------------


class MetadataEndpoint:
    """What an instance (IMDSv2) or a container hands out: credentials that expire. `lifetime_s` of each; `issued` counts them."""

    def __init__(self, access: str, secret: str, lifetime_s: float, token: str = "") -> None:
        self.access, self.secret, self.lifetime_s, self.token = access, secret, lifetime_s, token
        self.issued = 0
        self.paths: list[str] = []
        self.fail_next = 0

    def __enter__(self) -> MetadataEndpoint:
        import datetime
        import json
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_PUT(self) -> None:  # noqa: N802
                outer.paths.append(f"PUT {self.path}")
                ok = self.path == "/latest/api/token" and self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
                self.answer(200 if ok else 400, b"a-session-of-the-metadata-service" if ok else b"")

            def do_GET(self) -> None:  # noqa: N802
                outer.paths.append(f"GET {self.path}")
                if outer.fail_next > 0:
                    outer.fail_next -= 1
                    self.answer(500, b"")
                    return
                instance = self.path.startswith("/latest/meta-data/iam/security-credentials/")
                if instance and self.headers.get("X-aws-ec2-metadata-token") != "a-session-of-the-metadata-service":
                    self.answer(401, b"")
                elif instance and self.path.endswith("/"):
                    self.answer(200, b"a-role")
                elif (instance and self.path.endswith("/a-role")) or self.path == "/container/credentials":
                    outer.issued += 1
                    ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=outer.lifetime_s)
                    document = {"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": outer.access, "SecretAccessKey": outer.secret}
                    document |= {"Token": outer.token, "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ")}
                    self.answer(200, json.dumps(document).encode())
                else:
                    self.answer(404, b"")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
