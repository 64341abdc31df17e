"""A batch's ledger: what was intended, started and ended, on disk before it matters."""

from .ledger import Ledger
from .records import LedgerEntry, LedgerState, LedgerSummary

__all__ = ["Ledger", "LedgerEntry", "LedgerState", "LedgerSummary"]
