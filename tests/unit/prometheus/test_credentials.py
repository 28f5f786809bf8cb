"""Credentials from files reach Prometheus, follow a rotation, and appear in no message."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prometheus_clients import Ask, configured, write
from r1_cluster.control_plane.certificates import KeyPair, create_authority
from r1_common.prometheus.client_config import InvalidPrometheusConfig, load_config
from scripted_prometheus import Reply, Script, scripted

Client = tuple[Ask, Callable[..., bytes]]


def test_a_rotated_bearer_token_is_used_by_the_next_request(
    client: Client, server: Script, tmp_path: Path
) -> None:
    ask, good = client
    server.reply = Reply(200, good(3.0))
    token = tmp_path / "token"
    config = configured(server.url, bearerTokenFile=write(token, "first-token\n"))
    server.accepted = {"Authorization": "Bearer first-token"}
    assert ask(config) == 3.0
    server.accepted = {"Authorization": "Bearer second-token"}
    outcome = ask(config)
    assert isinstance(outcome, tuple)
    assert "401 Unauthorized" in outcome[1]
    write(token, "second-token")
    assert ask(config) == 3.0


def test_basic_auth_comes_from_files(client: Client, server: Script, tmp_path: Path) -> None:
    ask, good = client
    server.reply = Reply(200, good(3.0))
    encoded = base64.b64encode("r1:pa:ss wörd".encode()).decode()
    server.accepted = {"Authorization": f"Basic {encoded}"}
    config = configured(
        server.url,
        usernameFile=write(tmp_path / "user", "r1\n"),
        passwordFile=write(tmp_path / "password", "pa:ss wörd\n"),
    )
    assert ask(config) == 3.0


def test_headers_of_the_configuration_and_of_files_are_sent(
    client: Client, server: Script, tmp_path: Path
) -> None:
    ask, good = client
    server.reply = Reply(200, good(3.0))
    server.accepted = {"X-Scope-OrgID": "team-a|team-b", "X-Api-Key": "key-1"}
    config = configured(
        server.url,
        headers={"X-Scope-OrgID": "team-a|team-b"},
        headerFiles={"X-Api-Key": write(tmp_path / "key", "key-1")},
    )
    assert ask(config) == 3.0


def test_environment_variables_add_no_credentials_and_no_proxy(
    client: Client, server: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, good = client
    server.reply = Reply(200, good(3.0))
    write(tmp_path / ".netrc", "machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert ask(configured(server.url)) == 3.0
    assert "Authorization" not in server.requests[0][1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "empty"),
        (b" \n", "empty"),
        (b"to\nken", "not valid in an HTTP header"),
        (b"\xff\xfe", "not UTF-8"),
        ("schlüssel".encode(), "not valid in an HTTP header"),
        (b"x" * 70_000, "longer than"),
    ],
)
def test_unusable_token_file_is_reported_and_no_request_is_sent(
    client: Client, server: Script, tmp_path: Path, content: bytes | None, words: str
) -> None:
    ask, good = client
    server.reply = Reply(200, good(3.0))
    token = tmp_path / "token"
    if content is not None:
        token.write_bytes(content)
    outcome = ask(configured(server.url, bearerTokenFile=str(token)))
    assert isinstance(outcome, tuple)
    assert str(token) in outcome[1]
    assert words in outcome[1]
    assert "xxxx" not in outcome[1]
    assert server.requests == []


def test_a_secret_that_the_server_repeats_is_masked(
    client: Client, server: Script, tmp_path: Path
) -> None:
    ask, _ = client
    text = "bad token s3cr3t-token; Basic s3cr3t-token"
    config = configured(server.url, bearerTokenFile=write(tmp_path / "token", "s3cr3t-token"))
    for reply in (
        Reply(401, text.encode(), "text/plain"),
        Reply(400, json.dumps({"status": "error", "error": text}).encode()),
    ):
        server.reply = reply
        outcome = ask(config)
        assert isinstance(outcome, tuple)
        assert "s3cr3t" not in outcome[1]
        assert "***" in outcome[1]


@pytest.fixture
def tls_server(server_keys: KeyPair) -> Iterator[Script]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_keys.certificate, server_keys.key)
    with scripted(context) as script:
        yield script


def test_private_ca_is_trusted_only_where_configured(
    client: Client, tls_server: Script, authority: KeyPair, tmp_path: Path
) -> None:
    ask, good = client
    tls_server.reply = Reply(200, good(3.0))
    assert ask(configured(tls_server.url, caFile=str(authority.certificate))) == 3.0
    for fields in ({}, {"caFile": str(create_authority(tmp_path, "other").certificate)}):
        outcome = ask(configured(tls_server.url, **fields))
        assert isinstance(outcome, tuple)
        assert outcome[0] in ("Unreachable", "PrometheusUnreachable")
        assert "certificate verify failed" in outcome[1].lower()


def test_rotated_ca_is_used_by_the_next_request(
    client: Client, tls_server: Script, authority: KeyPair, tmp_path: Path
) -> None:
    ask, good = client
    tls_server.reply = Reply(200, good(3.0))
    file = tmp_path / "ca.crt"
    write(file, create_authority(tmp_path, "old").certificate.read_text())
    config = configured(tls_server.url, caFile=str(file))
    assert isinstance(ask(config), tuple)
    write(file, authority.certificate.read_text())
    assert ask(config) == 3.0


def test_a_client_certificate_is_presented(
    client: Client, server_keys: KeyPair, client_keys: KeyPair, authority: KeyPair
) -> None:
    ask, good = client
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_keys.certificate, server_keys.key)
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    with scripted(context) as server:
        server.reply = Reply(200, good(3.0))
        trust = {"caFile": str(authority.certificate)}
        own = {"certFile": str(client_keys.certificate), "keyFile": str(client_keys.key)}
        assert ask(configured(server.url, **trust, **own)) == 3.0
        assert isinstance(ask(configured(server.url, **trust)), tuple)


def test_unusable_tls_files_are_reported(
    client: Client, tls_server: Script, client_keys: KeyPair, server_keys: KeyPair, tmp_path: Path
) -> None:
    ask, _ = client
    rubbish = write(tmp_path / "ca.crt", "no certificate")
    mismatch = {"certFile": str(client_keys.certificate), "keyFile": str(server_keys.key)}
    for fields, named in (
        ({"caFile": rubbish}, rubbish),
        ({"caFile": str(tmp_path / "absent")}, "absent"),
        (mismatch, str(client_keys.certificate)),
    ):
        outcome = ask(configured(tls_server.url, **fields))
        assert isinstance(outcome, tuple)
        assert named in outcome[1]
    assert tls_server.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hush@prometheus:9090",
        "https://user:hush@[::1]:9090/path",
        "http://hush@prometheus:9090",
        "http://user:hu%40sh@prometheus:9090",
        "http://user:hu@sh@prometheus:9090",
        "user:hush@prometheus:9090",
        "http://user:hush@prometheus:port",
        "http://prometheus:9090/?token=hush",
        "http://prometheus:9090#hush",
        "ftp://hush",
        "hush",
        "http://",
        "http://hu sh",
    ],
)
def test_url_with_credentials_or_without_a_host_is_rejected_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidPrometheusConfig) as refused:
        load_config(url)
    assert "hush" not in str(refused.value)
    assert "sh@" not in str(refused.value)


@pytest.mark.parametrize(
    ("client", "named"),
    [
        ('{"matchers": {"a-b": "x"}}', "matchers: 'a-b'"),
        ('{"matchers": {"__name__": "x"}}', "matchers: '__name__'"),
        ('{"matchers": {"": "x"}}', "matchers: ''"),
        ('{"matchers": {"1a": "x"}}', "matchers: '1a'"),
        ('{"matchers": {"a": 1}}', "matchers: "),
        ('{"matchers": ["a"]}', "matchers: "),
        ('{"matchers": {"a": "\\ud800"}}', "matchers: "),
        ('{"headers": {"Authorization": "hush"}}', "bearerTokenFile"),
        ('{"headers": {"cookie": "hush"}}', "headers: cookie"),
        ('{"headers": {"a b": "hush"}}', "headers: 'a b'"),
        ('{"headers": {"X-A": "a\\nhush"}}', "headers: the value of X-A"),
        ('{"headerFiles": {"X-A": ""}}', "headerFiles: X-A"),
        ('{"headers": {"X-A": "1"}, "headerFiles": {"x-a": "/f"}}', "headerFiles: x-a"),
        ('{"usernameFile": "/u"}', "passwordFile is missing: usernameFile requires it"),
        ('{"passwordFile": "/p"}', "usernameFile is missing: passwordFile requires it"),
        ('{"keyFile": "/k"}', "certFile is missing: keyFile requires it"),
        (
            '{"bearerTokenFile": "/t", "usernameFile": "/u", "passwordFile": "/p"}',
            "set one of them",
        ),
        ('{"bearerToken": "hush"}', "'bearerToken' is not a known field"),
        ('{"bearerTokenFile": 3}', "bearerTokenFile: "),
        ('{"scrapeInterval": "15"}', "scrapeInterval: '15'"),
        ('{"scrapeInterval": "0s"}', "scrapeInterval: '0s'"),
        ('{"scrapeInterval": 15}', "scrapeInterval: "),
        ("{not json", "not JSON"),
        ("/absent/file.json", "/absent/file.json: No such file"),
    ],
)
def test_invalid_configuration_names_the_field(client: str, named: str) -> None:
    with pytest.raises(InvalidPrometheusConfig) as refused:
        load_config("http://prometheus:9090", client)
    assert named in str(refused.value)
    assert "hush" not in str(refused.value)


def test_the_configuration_may_be_a_file(tmp_path: Path) -> None:
    file = write(tmp_path / "client.json", '{"scrapeInterval": "1m30s"}')
    config = load_config("http://prometheus:9090/path/", file)
    assert config.url == "http://prometheus:9090/path"
    assert config.scrape_interval_seconds == 90.0


@pytest.mark.parametrize(
    ("interval", "window"),
    [("", 60), ("15s", 60), ("5s", 60), ("500ms", 60), ("30s", 120), ("60s", 240), ("1m1s", 244),
     ("1h", 14_400), ("16200ms", 65)],
)  # fmt: skip
def test_the_window_of_rates_spans_four_scrapes_and_at_least_a_minute(
    interval: str, window: int
) -> None:
    client = json.dumps({"scrapeInterval": interval}) if interval else ""
    assert load_config("http://p", client).rate_seconds(60) == window
