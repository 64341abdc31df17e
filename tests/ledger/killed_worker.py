"""One batch with a ledger, as a program that may be killed at any moment: prints each result as one line of JSON."""

from __future__ import annotations

import asyncio
import functools
import json
import random
import sys

from deepnote_async import DeepnoteClient, RunRequest, TokenBucket
from deepnote_async.waiting import fanout
from deepnote_async.waiting.reconcile import Reconciler

# What was sent to a server on loopback before the sender died has arrived a good second later.
fanout.Reconciler = functools.partial(Reconciler, settle=1.5)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def requests_of(job: dict) -> list[RunRequest]:
    notebooks = job["notebooks"]
    numbers = list(range(job["count"]))
    if job["shuffle"] is not None:
        random.Random(job["shuffle"]).shuffle(numbers)
    # Every fifth equals another, and some have keys of their own.
    return [
        RunRequest(
            notebooks[number % len(notebooks)],
            inputs={"number": number - number % 5 // 4 * len(notebooks)} if number % 7 else {"number": number},
            key=None if number % 7 else f"row {number}",
        )
        for number in numbers
    ]


async def main(job: dict) -> None:
    limiter = TokenBucket(400.0, 20.0, adaptive=False)
    async with DeepnoteClient(job["token"], base_url=job["url"], rate_limiter=limiter) as client:
        requests = requests_of(job)
        async with client.run_many(requests, ledger=job["ledger"], on_unknown="reconcile") as batch:
            say("begun")
            async for result in batch:
                status = None if result.run is None else result.run.status
                line = {"key": result.key, "run": result.run_id, "status": status, "error": repr(result.error)}
                say(json.dumps(line))
        say(json.dumps({"leftover": len(batch.leftover)}))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
