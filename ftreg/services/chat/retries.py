"""When to retry a request, and after how long."""

import random

import urllib3
from urllib3.exceptions import InvalidHeader

RETRIED = (408, 409, 425, 429, 500, 502, 503, 504, 529)
"""Transient statuses."""
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 60


class Patient(urllib3.Retry):
    """Waits before the first retry too, but never longer than a minute."""

    def get_backoff_time(self) -> float:
        """Return the seconds to wait: doubled each time, plus random jitter of up to as much."""
        wait = _FIRST_WAIT * 2 ** max(len(self.history) - 1, 0)
        return float(min(wait * (1 + random.random()), _LONGEST_WAIT))

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        """Return the seconds requested by the server, within limits; None if missing or invalid."""
        try:
            wait = super().get_retry_after(response)
        except InvalidHeader:
            return None
        return None if wait is None else min(wait, _LONGEST_WAIT)


def patient(most: int) -> Patient:
    """Return retries for any method: `most` after 429, 5xx, a timeout or a lost connection."""
    return Patient(
        total=most, allowed_methods=None, status_forcelist=RETRIED, raise_on_status=False
    )
