"""One deadline for a whole call, whatever the server does, and nothing left behind."""

from __future__ import annotations

import gzip
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import requests
from raw_server import BALANCE, RawServer, Script, answer, drip, forever
from support import KEY, wait_until
from tls import enable_tls

from airflow_provider_aimlbilling.client import AimlBillingClient, Settings
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError, AimlBillingError, AimlBillingUnavailable
from airflow_provider_aimlbilling.sandbox import Sandbox

GOOD = answer()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

SLOW: dict[str, Callable[[], Script]] = {
    "silence": lambda: [60.0],
    "status line, byte by byte": lambda: drip(b"HTTP/1.1 200 " + b"O" * 1000),
    "header, byte by byte": lambda: chain([b"HTTP/1.1 200 OK\r\n"], drip(b"X-Slow: " + b"x" * 1000)),
    "one header after another": lambda: chain([b"HTTP/1.1 200 OK\r\n"], drip([b"X: y\r\n"] * 1000)),
    "100 Continue without end": lambda: drip([b"HTTP/1.1 100 Continue\r\n\r\n"] * 1000),
    "100 Continue in a flood": lambda: forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "body, byte by byte": lambda: chain([HEAD + b"Content-Length: 1000\r\n\r\n"], drip(b"{" * 1000)),
    "silence before the body": lambda: [HEAD + b"Content-Length: 1000\r\n\r\n", 60.0],
    "body without length": lambda: chain([HEAD + b"Connection: close\r\n\r\n"], drip(b" " * 1000)),
    "chunk size, byte by byte": lambda: chain([CHUNKED], drip(b"0" * 1000)),
    "chunk extension in a flood": lambda: chain([CHUNKED, b"1;"], forever(b"x" * 1000)),
    "chunks, byte by byte": lambda: chain([CHUNKED], drip(b"1\r\n{\r\n" * 1000)),
    "silence after a chunk": lambda: [CHUNKED, b"1\r\n{\r\n", 60.0],
    "trailers, byte by byte": lambda: chain([CHUNKED, b"2\r\n{}\r\n0\r\n"], drip(b"X: y\r\n" * 1000)),
    "trailers in a flood": lambda: chain([CHUNKED, b"2\r\n{}\r\n0\r\n"], forever(b"X: y\r\n" * 100)),
    "a redirect with an endless body": lambda: chain(
        [b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 100000\r\n\r\n"], drip(b"x" * 1000)
    ),
    "an error with an endless body": lambda: chain(
        [b"HTTP/1.1 503 Down\r\nContent-Length: 100000\r\n\r\n"], drip(b"x" * 1000)
    ),
}


def client_for(server: Any, timeout: float = 1.0) -> AimlBillingClient:
    return AimlBillingClient(Settings(KEY, server.url, timeout), retries=0)


def seconds_until_unavailable(client: AimlBillingClient, **arguments: Any) -> float:
    started = time.monotonic()
    with pytest.raises(AimlBillingUnavailable):
        client.get_balance(**arguments)
    return time.monotonic() - started


@pytest.mark.parametrize("case", SLOW)
def test_a_call_ends_at_its_deadline(case: str) -> None:
    with RawServer(SLOW[case]) as server:
        assert seconds_until_unavailable(client_for(server, 0.5)) < 1.0


def test_a_server_that_accepts_nothing_is_unavailable() -> None:
    """Its backlog is full, so that connecting takes forever."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        filling = [socket.socket() for _ in range(4)]
        for sock in filling:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        settings = Settings(KEY, f"http://127.0.0.1:{listener.getsockname()[1]}", 0.5)
        assert seconds_until_unavailable(AimlBillingClient(settings, retries=0)) < 1.0
        for sock in filling:
            sock.close()


def test_a_server_that_never_ends_the_tls_handshake_is_unavailable() -> None:
    with RawServer(lambda: drip(b"\x16\x03\x03\x40\x00" + b"\x02" * 1000), read_request=False) as server:
        settings = Settings(KEY, server.url.replace("http:", "https:"), 0.5)
        assert seconds_until_unavailable(AimlBillingClient(settings, retries=0)) < 1.0


def test_a_proxy_that_never_answers_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY")
    with RawServer(lambda: chain([b"HTTP/1.1 200 OK\r\n"], drip(b"X: y\r\n" * 1000))) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        settings = Settings(KEY, "https://billing.example", 0.5)
        assert seconds_until_unavailable(AimlBillingClient(settings, retries=0)) < 1.0
        assert proxy.connections == 1


def test_a_name_that_does_not_resolve_in_time_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """All calls for a host share one look-up, so a resolver that hangs holds one thread and not one for each call."""
    release, look_up, lookups = threading.Event(), socket.getaddrinfo, []

    def hang(host: str, *arguments: Any, **options: Any) -> Any:
        if host != "billing.example":
            return look_up(host, *arguments, **options)
        if options.get("flags"):
            raise socket.gaierror  # not an address
        lookups.append(host)
        release.wait(10)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    settings = Settings(KEY, "https://billing.example", 0.3)
    for _ in range(3):
        assert seconds_until_unavailable(AimlBillingClient(settings, retries=0)) < 0.8
    assert lookups == ["billing.example"]
    release.set()


def test_the_time_of_all_requests_together_can_be_limited(sandbox: Sandbox) -> None:
    """A gate's deadline covers the retries, and everything that it reads besides the balance."""
    client = AimlBillingClient(Settings(KEY, sandbox.url, 10), retries=3)
    sandbox.fail(status=503)
    assert seconds_until_unavailable(client, max_seconds=0.3) < 0.6
    sandbox.fail(delay=0.25)
    assert seconds_until_unavailable(client, max_seconds=0.4, respect_key_limit=True) < 0.6
    sandbox.recover()
    assert client.get_balance().balance == 5_000_000, "the limit was for that call only"


def test_calls_that_end_early_leave_no_thread_and_no_socket() -> None:
    with RawServer(SLOW["silence"]) as server, RawServer(lambda: [GOOD]) as good:
        before = our_threads(), open_sockets()
        for url in (server.url, good.url):
            for _ in range(5):
                client = AimlBillingClient(Settings(KEY, url, 0.2), retries=0)
                with suppress(AimlBillingUnavailable):
                    client.get_balance()
                client.close()
        sockets_of_the_server = 10
        assert our_threads() <= before[0]
        assert open_sockets() - before[1] <= sockets_of_the_server


def test_closing_a_client_ends_a_call_in_another_thread() -> None:
    """So a triggerer gets its thread back when the last gate has ended, and not at the end of a long timeout."""
    with RawServer(SLOW["silence"]) as server:
        client = client_for(server, 60)
        taken: list[float] = []
        thread = threading.Thread(target=lambda: taken.append(seconds_until_unavailable(client)))
        thread.start()
        wait_until(lambda: server.connections)
        time.sleep(0.1)  # until the thread reads the response
        client.close()
        thread.join(5)
        assert taken
        assert taken[0] < 5


def test_closing_a_client_ends_a_call_over_tls_in_another_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = tmp_path / "certificate.pem"
    account = Sandbox("5 USD", key=KEY)
    url = enable_tls(account, certificate)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with account:
        client = AimlBillingClient(Settings(KEY, url, 60), retries=0)
        client.get_balance()
        account.fail(delay=3)
        taken: list[float] = []
        thread = threading.Thread(target=lambda: taken.append(seconds_until_unavailable(client)))
        thread.start()
        wait_until(lambda: len(account.requests) == 2)
        client.close()
        thread.join(2)
        assert taken
        account.recover()


def our_threads() -> int:
    return sum("_serve" not in thread.name and "_accept" not in thread.name for thread in threading.enumerate())


def open_sockets() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def positions(seed: int, count: int) -> Iterator[int]:
    chooser = random.Random(seed)
    yield from (chooser.randrange(len(GOOD)) for _ in range(count))


@pytest.mark.parametrize("seed", range(3))
def test_an_answer_that_is_cut_or_delayed_anywhere_is_complete_or_unavailable(seed: int) -> None:
    for position in positions(seed, 8):
        for script in ([GOOD[:position]], [GOOD[:position], 0.35, GOOD[position:]], [*drip(GOOD[position:], 0.01)]):
            with RawServer(lambda script=script: script) as server:  # type: ignore[misc]
                started = time.monotonic()
                try:
                    balance = client_for(server, 0.3).get_balance().balance
                except AimlBillingUnavailable:
                    balance = 5_000_000
                assert balance == 5_000_000
                assert time.monotonic() - started < 1.0


@pytest.mark.parametrize("seed", range(3))
def test_a_garbled_answer_is_a_balance_or_an_error_of_ours(seed: int) -> None:
    chooser = random.Random(seed)
    for position in positions(seed, 60):
        garbled = bytearray(GOOD)
        garbled[position : position + chooser.choice([1, 1, 4, 40])] = chooser.randbytes(chooser.choice([0, 1, 4]))
        with RawServer(lambda garbled=garbled: [bytes(garbled)]) as server:  # type: ignore[misc]
            started = time.monotonic()
            try:
                found: object = client_for(server, 0.3).get_balance()
            except AimlBillingError as error:
                found = error
            text = f"{found!r}{found}"
            assert text.isprintable(), text
            assert time.monotonic() - started < 1.0


BOMB = gzip.compress(b" " * 50_000_000)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip, gzip", "br", "x" * 50])
@pytest.mark.parametrize("status", ["200 OK", "302 Found", "503 Down"])
def test_a_compressed_body_is_never_decompressed(encoding: str, status: str) -> None:
    """urllib3 before 2.6 may need gigabytes for it."""
    with RawServer(lambda: [answer(BOMB, f"Content-Encoding: {encoding}", status=status)]) as server:
        client = client_for(server)
        with pytest.raises(AimlBillingUnavailable, match="compressed body, which was not asked for"):
            client.get_balance()


def test_no_compression_is_asked_for(sandbox: Sandbox, client: AimlBillingClient) -> None:
    client.get_balance()
    assert sandbox.requests[0].headers["Accept-Encoding"] == "identity"


def test_a_body_that_is_too_large_is_refused() -> None:
    endless = lambda: chain([HEAD + b"Connection: close\r\n\r\n"], forever(b" " * 10_000))  # noqa: E731
    with RawServer(endless) as server, pytest.raises(AimlBillingContractError, match="never sends that much"):
        client_for(server).get_balance()


def test_invalid_headers_are_ignored_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    """urllib3 would log a warning for each poll, with the text of the headers."""
    head = b"HTTP/1.1 200 OK\r\nno colon here \x1b[31m\r\nX: y\r\n"
    with RawServer(lambda: [head + GOOD.partition(b"\r\n")[2]]) as server, caplog.at_level("DEBUG"):
        with suppress(AimlBillingError):
            client_for(server).get_balance()
        assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_cookies_are_not_kept() -> None:
    """A server could let them grow with each poll."""
    cookies = [f"Set-Cookie: c{number}={'x' * 1000}" for number in range(20)]
    with RawServer(lambda: [answer(BALANCE, *cookies)]) as server:
        client = client_for(server)
        client.get_balance()
        assert len(client.session.cookies) == 0


def test_an_address_that_does_not_answer_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with IPv6 and IPv4 addresses must work if only one of them does."""
    with RawServer(lambda: [GOOD]) as server, socket.create_server(("127.0.0.2", 0), backlog=0) as full:
        filling = [socket.socket() for _ in range(4)]
        for sock in filling:
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        family = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        port = int(server.url.rpartition(":")[2])

        def look_up(host: str, *_: Any, **options: Any) -> Any:
            if options.get("flags"):
                raise socket.gaierror
            return [(*family, full.getsockname()), (*family, ("127.0.0.1", port))]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        client = AimlBillingClient(Settings(KEY, f"http://localhost:{port}", 1.0), retries=0)
        assert client.get_balance().balance == 5_000_000
        for sock in filling:
            sock.close()


def test_errors_carry_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Error reporting tools follow the chain of errors, and a request has the key in its headers."""
    with RawServer(list) as server, pytest.raises(AimlBillingUnavailable) as caught:
        client_for(server).get_balance()
    seen: list[BaseException] = [caught.value]
    for error in seen:
        assert not isinstance(error, requests.RequestException)
        seen += [chained for chained in (error.__cause__, error.__context__) if chained is not None]


def test_tls_is_verified(tmp_path: Path) -> None:
    account = Sandbox("5 USD", key=KEY)
    url = enable_tls(account, tmp_path / "certificate.pem")
    with account, pytest.raises(AimlBillingUnavailable, match="TLS failed"):
        AimlBillingClient(Settings(KEY, url, 2), retries=0).get_balance()
    assert ssl.create_default_context().verify_mode == ssl.CERT_REQUIRED
