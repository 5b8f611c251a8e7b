"""The proxies that are compared, each told to do the same job: attach a header, forward to one origin, one worker."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from origin import TOKEN


@dataclass(frozen=True)
class Job:
    """What a proxy is to do. `folder` is its own, for what it must be told in files."""

    folder: Path
    port: int
    upstream_port: int
    # The authority of an HTTPS upstream; none: plain HTTP.
    ca: Path | None = None
    workers: int = 1
    # Clients speak HTTP/2 without asking first, which two peers must be told.
    http2: bool = False
    # `?token=` instead of a header. Ours and nginx alone.
    in_query: bool = False
    # A TLS listener. Ours alone.
    tls: bool = False
    # A login that is renewed, good for this long, instead of a token as it is. Ours alone.
    login_lifetime: str | None = None
    # Where it is asked for its counts. Ours alone.
    admin_port: int = 0


# Writes a proxy's configuration, and says how it is started.
Program = Callable[[Job], list[str]]


def ours(binary: Path) -> Program:
    def command(job: Job) -> list[str]:
        secret = job.folder / "secret"
        secret.touch(mode=0o600)
        secret.write_text(TOKEN)
        credential = _OURS_LOGIN.format(lifetime=job.login_lifetime) if job.login_lifetime else _OURS_TOKEN
        attach = 'query = "token"' if job.in_query else 'header = "Authorization", scheme = "Bearer"'
        config = job.folder / "proxy.toml"
        config.touch(mode=0o600)
        config.write_text(
            _OURS.format(
                workers=job.workers,
                port=job.port,
                admin_port=job.admin_port,
                listener="tls = { self_signed = true }" if job.tls else "",
                url=f"https://localhost:{job.upstream_port}" if job.ca else f"http://127.0.0.1:{job.upstream_port}",
                upstream=f'tls = {{ ca = "{job.ca}" }}' if job.ca else "plain_http = true",
                credential=credential,
                attach=attach,
            )
        )
        return [binary, "serve", "--config", config]

    return command


def nginx(job: Job) -> list[str]:
    if job.in_query:
        forward = f"proxy_pass http://origin$uri?token={TOKEN};"
    elif job.ca:
        forward = (
            f"proxy_set_header Authorization 'Bearer {TOKEN}'; proxy_pass https://origin; proxy_ssl_name localhost;"
            f"proxy_ssl_server_name on; proxy_ssl_verify on; proxy_ssl_trusted_certificate {job.ca};"
        )
    else:
        forward = f"proxy_set_header Authorization 'Bearer {TOKEN}'; proxy_pass http://origin;"
    config = job.folder / "nginx.conf"
    config.write_text(
        _NGINX.format(
            folder=job.folder,
            port=job.port,
            http2=" http2" if job.http2 else "",
            upstream_port=job.upstream_port,
            forward=forward,
        )
    )
    return ["nginx", "-c", config, "-p", job.folder]


def haproxy(job: Job) -> list[str]:
    tls = f"ssl verify required verifyhost localhost sni str(localhost) ca-file {job.ca}" if job.ca else ""
    config = job.folder / "haproxy.cfg"
    config.write_text(
        _HAPROXY.format(
            port=job.port,
            http2="proto h2" if job.http2 else "",
            upstream_port=job.upstream_port,
            tls=tls,
            token=TOKEN,
        )
    )
    return ["haproxy", "-db", "-f", config]


def envoy(binary: Path) -> Program:
    def command(job: Job) -> list[str]:
        (job.folder / "token.yaml").write_text(_ENVOY_TOKEN.format(token=TOKEN))
        config = job.folder / "envoy.yaml"
        config.write_text(
            _ENVOY.format(
                folder=job.folder,
                port=job.port,
                upstream_port=job.upstream_port,
                tls=_ENVOY_TLS.format(ca=job.ca) if job.ca else "",
            )
        )
        # A secret of a file wants a node with a name; without hot restart no other Envoy is in the way.
        node = ["--service-node", "load", "--service-cluster", "load", "--disable-hot-restart"]
        return [binary, "-c", config, "--concurrency", "1", "--log-level", "warning", *node]

    return command


# Everything as it is by default but the log of each request, which no peer writes either. A handshake under callgrind
# takes its time: nobody gives up a connection before a minute has passed.
_OURS = """
workers = {workers}
state_dir = "state"

[log]
access = false

[listener.load]
address = "127.0.0.1:{port}"
{listener}

[admin]
address = "127.0.0.1:{admin_port}"

[upstream.origin]
url = "{url}"
connect_timeout = "60s"
{upstream}

{credential}

[route.load]
path = "/"
upstream = "origin"
attach = [{{ credential = "load", {attach} }}]
"""

_OURS_TOKEN = """
[credential.load.token]
value = { file = "secret" }
"""

_OURS_LOGIN = """
[credential.load.cp4d]
upstream = "origin"
username = "load"
api_key = {{ file = "secret" }}
lifetime = "{lifetime}"
"""

_NGINX = """
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
    client_max_body_size 1m;
    client_body_buffer_size 64k;
    upstream origin {{
        server 127.0.0.1:{upstream_port};
        keepalive 512;
        keepalive_requests 1000000000;
        keepalive_timeout 1h;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=16384{http2};
        location / {{
            proxy_http_version 1.1;
            proxy_set_header Connection '';
            proxy_set_header Host $host;
            proxy_read_timeout 1h;
            proxy_max_temp_file_size 0;
            {forward}
        }}
    }}
}}
"""

_HAPROXY = """
global
    nbthread 1
    maxconn 8000
    no-memory-trimming
defaults
    mode http
    timeout connect 60s
    timeout client 1h
    timeout server 1h
    timeout http-keep-alive 1h
    http-reuse always
frontend load
    bind 127.0.0.1:{port} backlog 16384 {http2}
    http-request set-header Authorization "Bearer {token}"
    default_backend origin
backend origin
    server origin 127.0.0.1:{upstream_port} {tls}
"""

_ENVOY_TOKEN = """
resources:
- "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
  name: token
  generic_secret: {{ secret: {{ inline_string: "Bearer {token}" }} }}
"""

_ENVOY = """
static_resources:
  listeners:
  - name: load
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    tcp_backlog_size: 16384
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: load
          stream_idle_timeout: 3600s
          http_filters:
          - name: envoy.filters.http.credential_injector
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector
              overwrite: true
              credential:
                name: envoy.http.injected_credentials.generic
                typed_config:
                  "@type": type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic
                  credential:
                    name: token
                    sds_config: {{ path_config_source: {{ path: {folder}/token.yaml }} }}
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          route_config:
            virtual_hosts:
            - name: load
              domains: ["*"]
              routes:
              - match: {{ prefix: "/" }}
                route: {{ cluster: origin, timeout: 0s }}
  clusters:
  - name: origin
    type: STATIC
    connect_timeout: 60s
    circuit_breakers:
      thresholds: [{{ max_connections: 16384, max_pending_requests: 16384, max_requests: 16384 }}]
    load_assignment:
      cluster_name: origin
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {upstream_port} }} }} }}
{tls}
"""

_ENVOY_TLS = """
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: localhost
        common_tls_context:
          validation_context: {{ trusted_ca: {{ filename: {ca} }} }}
"""
