"""The conformance suite of all stores (tests/support/store_conformance.h), run over each kind of server by build/release/test_net_servers.

DAMACY_TEST_BUILD names another build folder, for a build with sanitizers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from remote.conftest import HERE, SEVERAL_THREADS, s3_options
from servers import READER, Certificates, Nginx, SeaweedFS

PROJECT = HERE.parents[2]

UPLOAD = """
import sys
sys.path.insert(0, {support!r})
from pathlib import Path
from servers import SeaweedFS
server = SeaweedFS.at({port})
server.put_tree({bucket!r}, "conformance", Path({folder!r}))
"""


def test_conformance(nginx: Nginx, seaweed: SeaweedFS, web_root: Path, certificates: Certificates, tmp_path: Path) -> None:
    program = PROJECT / os.environ.get("DAMACY_TEST_BUILD", "build/release") / "test_net_servers"
    if not program.exists():
        pytest.skip(f"{program} is not built (scripts/build.sh release)")
    tls = {"ca_bundle": str(certificates.ca)}
    web = {
        "http": (f"http://127.0.0.1:{nginx.http}", {}),
        "http, several threads": (f"http://127.0.0.1:{nginx.http}", SEVERAL_THREADS),
        "https": (f"https://localhost:{nginx.https}", tls),
        "https, HTTP/2": (f"https://localhost:{nginx.http2}", tls),
        "http without ranges": (f"http://127.0.0.1:{nginx.http}/noranges", {}),
    }
    lines = []
    for number, (name, (base, options)) in enumerate(web.items()):
        folder = web_root / f"conformance{number}"
        folder.mkdir()
        lines += [name, f"{base}/conformance{number}", json.dumps(options | {"check_versions": False}), str(folder), ""]
    s3: dict[str, tuple[str, Any, dict[str, Any]]] = {
        "S3 with keys": ("private", READER, {}),
        "S3, anonymous": ("public", None, {}),
        "S3 with keys, several threads": ("private", READER, SEVERAL_THREADS),
    }
    for number, (name, (bucket, keys, more)) in enumerate(s3.items()):
        folder = tmp_path / f"s3-{number}"
        folder.mkdir()
        script = tmp_path / f"upload{number}.py"
        support = str(HERE.parents[1] / "support")
        script.write_text(UPLOAD.format(support=support, port=seaweed.port, bucket=bucket, folder=str(folder)))
        options = s3_options(seaweed.endpoint, keys, check_versions=False, **more)
        lines += [name, f"s3://{bucket}/conformance", json.dumps(options), str(folder), f"{sys.executable} {script}"]
    listing = tmp_path / "servers"
    listing.write_text("".join(f"{line}\n" for line in lines))
    done = subprocess.run([program], env=os.environ | {"DAMACY_TEST_SERVERS": str(listing)}, capture_output=True, text=True, timeout=800)
    print(done.stdout, done.stderr[-4000:])
    assert done.returncode == 0
    assert f"{len(web) + len(s3)} servers" in done.stdout
