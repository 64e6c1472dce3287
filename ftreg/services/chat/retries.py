"""When a request is sent again, and after how long."""

import random

import urllib3
from urllib3.exceptions import InvalidHeader

RETRIED = (408, 409, 425, 429, 500, 502, 503, 504, 529)
"""Statuses that pass."""
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 60


class Patient(urllib3.Retry):
    """Waits before the first retry too, and never longer than a minute."""

    def get_backoff_time(self) -> float:
        """Return the seconds to wait: doubled each time, and up to as much again by chance."""
        wait = _FIRST_WAIT * 2 ** max(len(self.history) - 1, 0)
        return float(min(wait * (1 + random.random()), _LONGEST_WAIT))

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        """Return the seconds that the server asks for, within reason; None for none or nonsense."""
        try:
            wait = super().get_retry_after(response)
        except InvalidHeader:
            return None
        return None if wait is None else min(wait, _LONGEST_WAIT)


def patient(most: int) -> Patient:
    """Return retries for requests of any method: `most` after 429, 5xx, a timeout, a cut line."""
    return Patient(
        total=most, allowed_methods=None, status_forcelist=RETRIED, raise_on_status=False
    )
