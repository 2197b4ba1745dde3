"""The results of a batch job on disk, what they were planned as, and the proof that all of them are there.

settings.py     the options that decide the bytes: `BatchSettings`
plan.py         plans: chunks, model and settings, written down first
files.py        draws files, their footers, and the tables of errors
account.py      what became of every image, from plans and footers
verification/   whether results are what their plans say
extraction/     images out of draws files, as files
names.py        the names of those files
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.doors import lazy_names

if TYPE_CHECKING:
    from pipelines.results.account import Account, committed, make_account
    from pipelines.results.extraction.job import ExtractReport, extract_results
    from pipelines.results.files import Draw, Failure, draws_name, read_footer
    from pipelines.results.plan import Generation, Plan, load_plans
    from pipelines.results.settings import AUTO_BATCH, AUTO_DRAWS, BatchSettings, OutputOptions
    from pipelines.results.verification.job import Verification, verify_results
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "account": ["Account", "committed", "make_account"],
            "extraction.job": ["ExtractReport", "extract_results"],
            "files": ["Draw", "Failure", "draws_name", "read_footer"],
            "plan": ["Generation", "Plan", "load_plans"],
            "settings": ["AUTO_BATCH", "AUTO_DRAWS", "BatchSettings", "OutputOptions"],
            "verification.job": ["Verification", "verify_results"],
        },
    )

__all__ = [
    "AUTO_BATCH",
    "AUTO_DRAWS",
    "Account",
    "BatchSettings",
    "Draw",
    "ExtractReport",
    "Failure",
    "Generation",
    "OutputOptions",
    "Plan",
    "Verification",
    "committed",
    "draws_name",
    "extract_results",
    "load_plans",
    "make_account",
    "read_footer",
    "verify_results",
]
