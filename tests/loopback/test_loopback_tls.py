"""Secure connections and proxies."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import ssl
import subprocess

import aiohttp
import pytest
from loopback_servers import ME, TOKEN, RawServer, client_of, closed_port, receive, says, serve_runs, settled

from deepnote_async import OutcomeUnknownError, RetryPolicy, TransportError

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that nobody has signed, and its key."""
    place = tmp_path_factory.mktemp("tls")
    certificate, key = place / "certificate.pem", place / "key.pem"
    subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=deepnote "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key.name} -out {certificate.name}".split(),
        cwd=place,
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.fixture
def served(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
def trusting(certificate):
    return ssl.create_default_context(cafile=str(certificate[0]))


async def test_a_certificate_that_cannot_be_trusted_is_not_tried_again(served):
    async with RawServer(serve_runs, tls=served) as server, client_of(server.url) as client:
        for number, call in enumerate((client.me(), client.runs.create("n1"), client.projects.delete("p")), 1):
            with pytest.raises(TransportError, match="certificate") as caught:
                await call
            assert (caught.value.sent, caught.value.attempts, caught.value.retryable) == (False, 1, False)
            assert TOKEN not in repr(caught.value.__cause__)
            assert server.connections <= number
        assert server.requests == []
        await settled(client)


async def test_no_environment_variable_turns_the_checks_off(served, monkeypatch):
    for name, value in {
        "PYTHONHTTPSVERIFY": "0",
        "NODE_TLS_REJECT_UNAUTHORIZED": "0",
        "SSL_NO_VERIFY": "1",
        "CURL_CA_BUNDLE": "",
        "REQUESTS_CA_BUNDLE": "",
        "DEEPNOTE_VERIFY": "0",
        "DEEPNOTE_INSECURE": "1",
    }.items():
        monkeypatch.setenv(name, value)
    for trusted in (False, True):
        async with RawServer(serve_runs, tls=served) as server, client_of(server.url, trust_env=trusted) as client:
            with pytest.raises(TransportError, match="certificate"):
                await client.me()
            assert server.requests == []


async def test_a_context_that_trusts_the_certificate_is_used(served, trusting):
    async with RawServer(serve_runs, tls=served) as server, client_of(server.url, ssl_context=trusting) as client:
        await client.me()
        await client.runs.create("n1")
        await client.me()
        assert server.connections == 2
        await settled(client)


async def test_a_certificate_for_another_host_is_refused(served, trusting):
    async with RawServer(serve_runs, tls=served) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        async with client_of(url, ssl_context=trusting) as client:
            with pytest.raises(TransportError) as caught:
                await client.me()
            assert not caught.value.retryable
            assert server.requests == []


async def test_a_secure_connection_that_breaks_after_the_start_was_sent_is_of_unknown_outcome(served, trusting):
    async def answer(exchange):
        exchange.writer.transport.abort()

    async with RawServer(answer, tls=served) as server, client_of(server.url, ssl_context=trusting) as client:
        with pytest.raises(OutcomeUnknownError):
            await client.runs.create("n1")
        assert server.count("POST") == 1


async def test_a_server_that_speaks_no_tls_is_not_tried_again():
    async with RawServer(says(ME)) as server:

        async def shout(reader, writer):
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        plain = await asyncio.start_server(shout, "127.0.0.1", 0)
        port = plain.sockets[0].getsockname()[1]
        try:
            async with client_of(f"https://127.0.0.1:{port}") as client:
                with pytest.raises(TransportError) as caught:
                    await client.runs.create("n1")
                assert (caught.value.sent, caught.value.attempts) == (False, 1)
        finally:
            plain.close()
            await plain.wait_closed()
        assert server.requests == []


# Proxies.


@contextlib.asynccontextmanager
async def tunnel(status=200):
    """A proxy that takes CONNECT only, with the heads it was sent."""
    heads, tasks = [], set()

    async def pump(reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def serve(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await receive(reader)
            heads.append(head)
            writer.write(f"HTTP/1.1 {status} Status\r\n\r\n".encode())
            if status != 200:
                writer.close()
                return
            host, _, port = head.target.rpartition(":")
            there, onward = await asyncio.open_connection(host, int(port))
            await asyncio.gather(pump(reader, onward), pump(there, writer))

    def connected(reader, writer):
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        tasks.add(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
    finally:
        server.close()
        await asyncio.wait(tasks, timeout=0.2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def test_a_proxy_is_used_and_sees_no_key_of_a_secure_call(served, trusting):
    async with (
        RawServer(serve_runs, tls=served) as server,
        tunnel() as (proxy, heads),
    ):
        async with client_of(server.url, ssl_context=trusting, proxy=f"http://user:word@{proxy}") as client:
            await client.me()
            await client.runs.create("n1")
            await settled(client)
        assert {head.method for head in heads} == {"CONNECT"}
        assert len(server.requests) == 2
        expected = "Basic " + base64.b64encode(b"user:word").decode()
        assert {head.headers["Proxy-Authorization"] for head in heads} == {expected}
        assert not [head for head in heads if TOKEN in str(head)]
        assert "Proxy-Authorization" not in server.requests[0].headers


async def test_a_plain_call_goes_through_a_proxy():
    async with RawServer(says(ME)) as proxy, closed_port() as url, client_of(url, proxy=proxy.url) as client:
        await client.me()
        assert proxy.requests[0].target == f"{url}/v2/me"


@pytest.mark.parametrize("status", [403, 407, 502])
async def test_a_proxy_that_refuses_sends_nothing_and_shows_no_password(served, trusting, status):
    async with RawServer(serve_runs, tls=served) as server, tunnel(status) as (proxy, heads):
        once = RetryPolicy(attempts=2, initial=0.001, maximum=0.001)
        options = {"ssl_context": trusting, "proxy": f"http://user:hidden-word@{proxy}", "retry": once}
        async with client_of(server.url, **options) as client:
            for call in (client.me, lambda: client.runs.create("n1")):
                with pytest.raises(TransportError) as caught:
                    await call()
                shown = repr(caught.value) + repr(caught.value.__cause__) + str(caught.value)
                assert "hidden" not in shown
                assert base64.b64encode(b"user:hidden-word").decode() not in shown
            assert not caught.value.sent
        assert server.requests == []
        assert len(heads) == 4


async def test_a_proxy_that_is_not_there_sends_nothing_and_shows_no_password():
    async with closed_port() as proxy, RawServer(serve_runs) as server:
        url = proxy.replace("http://", "http://user:hidden-word@")
        async with client_of(server.url, proxy=url) as client:
            for call in (client.me, lambda: client.runs.create("n1")):
                with pytest.raises(TransportError) as caught:
                    await call()
                assert not caught.value.sent
                assert "hidden" not in repr(caught.value.__cause__) + str(caught.value) + repr(caught.value)
        assert server.requests == []


async def test_a_borrowed_session_of_a_trusting_connector_stays_so(served, trusting):
    connector = aiohttp.TCPConnector(ssl=trusting)
    async with RawServer(serve_runs, tls=served) as server, aiohttp.ClientSession(connector=connector) as session:
        async with client_of(server.url, session=session) as client:
            await client.me()
        assert len(server.requests) == 1
