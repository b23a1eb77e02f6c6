"""What bad input is told."""

from typing import Any

import pytest

from ns_bench.errors import UserError


def refusal(function: Any, *arguments: Any) -> str:
    """Return the message of the UserError that a call raises: one line."""
    with pytest.raises(UserError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message
