"""Waiting for runs: which request is worth making next, who is told, and how a batch is fed."""
