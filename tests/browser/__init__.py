"""The dashboard in a real browser, with a real worker behind it."""

import pytest

pytest.register_assert_rewrite("tests.browser.visitor")
