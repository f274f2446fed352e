"""Evidence: every statistical decision of the program, as pure functions.

Loads neither torch nor scipy; scipy is imported by the function that needs it.
"""

from lastresort.evals.evidence.agreement import Agreement, agreement
from lastresort.evals.evidence.bar import (
    FALSE_NOT_MET,
    check_test_size,
    items_against_bar,
    judge_bar,
    smallest_deciding_test,
    so_far,
    wilson_interval,
)
from lastresort.evals.evidence.corrected import (
    LABELS_SHARE,
    Correction,
    correction,
    errors_left,
    judge_corrected,
    outlook_corrected,
    sides_of,
)
from lastresort.evals.evidence.noninferiority import (
    NonInferiority,
    OverSeeds,
    holm,
    items_needed,
    items_that_decide,
    non_inferior,
    over_seeds,
    power_of,
)
from lastresort.evals.evidence.outlook import Errors, errors_after, judge_going_on, outlook
from lastresort.evals.evidence.paired import PairedComparison, better, mcnemar_p
from lastresort.evals.evidence.selection import (
    PREDICTED,
    chance_of_met,
    choose,
    evidence_not_best,
    mildest,
    selection_bias_corrected,
)
from lastresort.evals.evidence.tango import tango_interval

__all__ = [
    "FALSE_NOT_MET",
    "LABELS_SHARE",
    "PREDICTED",
    "Agreement",
    "Correction",
    "Errors",
    "NonInferiority",
    "OverSeeds",
    "PairedComparison",
    "agreement",
    "better",
    "chance_of_met",
    "check_test_size",
    "choose",
    "correction",
    "errors_after",
    "errors_left",
    "evidence_not_best",
    "holm",
    "items_against_bar",
    "items_needed",
    "items_that_decide",
    "judge_bar",
    "judge_corrected",
    "judge_going_on",
    "mcnemar_p",
    "mildest",
    "non_inferior",
    "outlook",
    "outlook_corrected",
    "over_seeds",
    "power_of",
    "selection_bias_corrected",
    "sides_of",
    "smallest_deciding_test",
    "so_far",
    "tango_interval",
    "wilson_interval",
]
