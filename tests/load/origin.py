"""The one origin of all: nginx, which answers 401 to whoever brings no credential, and the files that it needs."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from processes import LOAD_CORE, Process, free_port

# As a token of the platform is long, and made of what every peer can write into its configuration.
TOKEN = "0123456789abcdef" * 2 + "." + "0123456789abcdef" * 40
SMALL = "/small"
BIG = "/big"
BIG_BYTES = 10_000_000
POST_BYTES = 16 * 1024


@dataclass(frozen=True)
class Origin:
    """Where the origin listens, and what its peers need to know of it."""

    port: int
    tls_port: int
    ca: Path
    # A body to send.
    upload: Path


@contextmanager
def start_origin(folder: Path, login_port: int) -> Iterator[Origin]:
    """`login_port` is where logins go on to."""
    folder.mkdir()
    ca = _make_certificate(folder)
    (folder / "big").write_bytes(bytes(range(250)) * (BIG_BYTES // 250))
    upload = folder / "upload"
    upload.write_bytes(b"u" * POST_BYTES)
    port, tls_port = free_port(), free_port()
    config = folder / "nginx.conf"
    config.write_text(
        _CONFIG.format(
            folder=folder,
            port=port,
            tls_port=tls_port,
            login_port=login_port,
            small=SMALL,
            big=BIG,
            body='{"text":"' + "a" * 981 + '"}',
        )
    )
    with Process(["nginx", "-c", config, "-p", folder], LOAD_CORE, port, folder / "log"):
        yield Origin(port, tls_port, ca, upload)


def _make_certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 and localhost, and the authority that signed it, whose file is returned."""
    extension = folder / "extension"
    extension.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n")
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for arguments in (
        ["req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-days", "30", "-subj", "/CN=load rig"],
        ["req", *new, "-keyout", "origin.key", "-out", "origin.csr", "-subj", "/CN=localhost"],
        ["x509", "-req", "-in", "origin.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30"]
        + ["-extfile", extension, "-out", "origin.pem"],
    ):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=30)
    return folder / "ca.pem"


_CONFIG = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
worker_rlimit_nofile 20000;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    sendfile on;
    tcp_nopush on;
    map $http_authorization $brings_header {{ default 0; "~^Bearer [0-9a-f.]{{32,}}$" 1; }}
    map $arg_token $brings_query {{ default 0; "~^[0-9a-f.]{{32,}}$" 1; }}
    map "$brings_header$brings_query" $refused {{ default 0; "00" 1; }}
    server {{
        listen 127.0.0.1:{port} backlog=16384;
        listen 127.0.0.1:{tls_port} ssl backlog=16384;
        ssl_certificate {folder}/origin.pem;
        ssl_certificate_key {folder}/origin.key;
        client_max_body_size 1m;
        client_body_buffer_size 64k;
        location = {small} {{
            default_type application/json;
            if ($refused) {{ return 401; }}
            return 200 '{body}';
        }}
        location = {big} {{
            default_type application/octet-stream;
            if ($refused) {{ return 401; }}
            root {folder};
        }}
        location /icp4d-api/ {{ proxy_pass http://127.0.0.1:{login_port}; }}
    }}
}}
"""
