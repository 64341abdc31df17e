"""Start one run for every combination of input values, and account for each.

python examples/fan_out.py                                          on an embedded service
python examples/fan_out.py NOTEBOOK_ID region=EU,US year=2024,2025  on the real one, with an API key in DEEPNOTE_TOKEN
"""

import asyncio
import sys

from deepnote_async import DeepnoteClient, grid
from deepnote_async.testing import FakeDeepnote, SlidingLimit


async def fan_out(client: DeepnoteClient, notebook_id: str, choices: dict[str, list[str]]) -> None:
    requests = grid(notebook_id, **choices)
    async with client.run_many(requests, max_in_flight=50, timeout=3600) as batch:
        async for result in batch:
            if result.ok:
                print(f"{result.request.inputs}: done")
            elif result.run is not None:
                print(f"{result.request.inputs}: run {result.run_id} ended as {result.run.status}")
            else:
                print(f"{result.request.inputs}: {type(result.error).__name__}: {result.error}")
    stats = batch.stats
    print(f"{stats.read} requests: {stats.succeeded} succeeded, {stats.failed} failed, {stats.errors} without a result")


async def main() -> None:
    if len(sys.argv) > 1:
        choices = {name: values.split(",") for name, _, values in (choice.partition("=") for choice in sys.argv[2:])}
        async with DeepnoteClient() as client:
            await fan_out(client, sys.argv[1], choices)
        return
    async with FakeDeepnote(time_scale=60, failures=0.1, limit=SlidingLimit(20, burst=5)) as fake:
        notebook = fake.notebook("Quarterly report")
        years = [str(year) for year in range(2016, 2026)]
        async with DeepnoteClient(fake.token, base_url=fake.url) as client:
            await fan_out(client, notebook.id, {"region": ["EU", "US"], "year": years})


if __name__ == "__main__":
    asyncio.run(main())
