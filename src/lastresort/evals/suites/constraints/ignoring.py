"""What guessing is among constraints: the score of answers that were written without regard to any.

Some demands are met by chance, "at most 18 words" by any short answer. So the chance of a group and level is what the answers
below score on its requests. CHANCE is that on 2,000 requests each; the tests work it out again.
"""

from __future__ import annotations

from random import Random

from lastresort.evals.suites.constraints.request import draw_request, keeps

ANSWERS = (
    "Billing.",
    "I am not sure what to say about that.",
    "They are simple, cheap and more useful than one would think.",
    "Many people enjoy them in their free time because they bring back memories of childhood.",
    "It is a matter of taste. Some like them a lot, others never give them a thought, and that is fine.",
    "You should try it at least once! Start small, take your time and ask somebody who knows more about it than you do.",
    "There is not much to tell. They come in all sizes. A good one lasts for years, if one looks after it.",
    "Here is what comes to mind:\n- They are easy to find.\n- They do not cost much.\n- They make a nice gift.",
    "1. Think about what you need.\n2. Compare a few offers.\n3. Take the one that you like best.",
    '{"answer": "They are popular", "reason": "They are cheap"}',
    "Dear colleague,\n\nI wanted to tell you about this, since you asked last week. It has been a pleasure so far, and I would "
    "be glad to show you more of it.\n\nBest wishes,\nSam",
    "Once upon a time there was a small town in which everybody had one. One day they were all gone. Nobody knew why. In the "
    "evening a child came home and said that they had only gone for a walk.",
)

CHANCE: dict[str, tuple[float, float, float]] = {
    "shape": (0.018, 0.006, 0.0),
    "length": (0.255, 0.044, 0.006),
    "wording": (0.002, 0.001, 0.0),
    "letters": (0.027, 0.0, 0.0),
    "frame": (0.0, 0.0, 0.0),
}


def ignoring_score(group: str, level: int, *, requests: int = 2000) -> float:
    """The share of right answers among the answers that ignore what is asked, over the requests of a fixed seed."""
    random = Random(f"ignoring/{group}/{level}")
    drawn = [draw_request(group, level, random) for _ in range(requests)]
    kept = sum(keeps(answer, request.constraints) for request in drawn for answer in ANSWERS)
    return kept / (requests * len(ANSWERS))
