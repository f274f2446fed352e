"""What a run leaves behind: its record, the response cache, the ledger of test items, and files written whole."""

from lastresort.records.atomic import disk_errors, replace_folder, settle_folder, write_atomically
from lastresort.records.ledger import Ledger, item_hash
from lastresort.records.measurement import ItemScore, Measurement
from lastresort.records.record import Record
from lastresort.records.responses import ResponseCache

__all__ = [
    "ItemScore",
    "Ledger",
    "Measurement",
    "Record",
    "ResponseCache",
    "disk_errors",
    "item_hash",
    "replace_folder",
    "settle_folder",
    "write_atomically",
]
