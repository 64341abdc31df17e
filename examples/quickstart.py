"""Start one run, await it, and read its outputs.

python examples/quickstart.py                on an embedded service
python examples/quickstart.py NOTEBOOK_ID    on the real one, with an API key in DEEPNOTE_TOKEN
"""

import asyncio
import sys

from deepnote_async import DeepnoteClient, RunFailedError, RunTimeoutError
from deepnote_async.testing import FakeDeepnote


async def run_once(client: DeepnoteClient, notebook_id: str) -> None:
    try:
        run = await client.run(notebook_id, timeout=600, snapshot="blocks", check=True)
    except RunFailedError as error:
        sys.exit(f"the notebook failed: {error}")
    except RunTimeoutError as error:
        sys.exit(f"still going after ten minutes: {error.run_id}")
    print(f"run {run.run_id}: {run.status} after {run.duration}")
    print(run.text())


async def main() -> None:
    if len(sys.argv) > 1:
        async with DeepnoteClient() as client:
            await run_once(client, sys.argv[1])
        return
    async with FakeDeepnote(time_scale=60) as fake:
        notebook = fake.notebook("Quarterly report").succeeds(after=45, outputs=["revenue: 4200"])
        async with DeepnoteClient(fake.token, base_url=fake.url) as client:
            await run_once(client, notebook.id)


if __name__ == "__main__":
    asyncio.run(main())
