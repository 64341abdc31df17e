"""Serve the board.

python examples/fastapi_app/serve.py                on an embedded service
python examples/fastapi_app/serve.py NOTEBOOK_ID    on the real one, with an API key in DEEPNOTE_TOKEN
"""

import argparse
import asyncio
import contextlib
import socket

import uvicorn
from fastapi import FastAPI
from reports_app import create_app

from deepnote_async import DeepnoteClient
from deepnote_async.testing import FakeProcess


class Server(uvicorn.Server):
    """Says where it is as soon as it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            host, port = server.sockets[0].getsockname()[:2]
            print(f"The board: http://{host}:{port}/  (Ctrl-C ends it)", flush=True)


async def serve(app: FastAPI, port: int) -> None:
    await Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning")).serve()


async def main() -> None:
    parser = argparse.ArgumentParser(description="A board of notebook runs.")
    parser.add_argument("notebook_id", nargs="?")
    parser.add_argument("--port", type=int, default=8000, help="0 takes any free one")
    parser.add_argument("--grace", type=float, default=10.0, help="s for waits to end at shutdown")
    options = parser.parse_args()
    if options.notebook_id is not None:
        await serve(create_app(options.notebook_id, grace=options.grace), options.port)
        return
    async with FakeProcess(median=5, sigma=0.5, failures=0.06, limit_rate=30, limit_burst=5) as fake:

        def client() -> DeepnoteClient:
            return DeepnoteClient(fake.token, base_url=fake.url)

        await serve(create_app(fake.notebooks[0], client=client, grace=options.grace), options.port)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
