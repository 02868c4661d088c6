"""The kit in Django's test cases."""

from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload
from unittest import TestCase

from jobs.testing.kit import Kit
from jobs.testing.recorded import Recorded

P = ParamSpec("P")
R = TypeVar("R")


class _OfKit(Generic[P, R]):
    """Makes a method of the test's kit a method of the test."""

    def __init__(self, method: Callable[Concatenate[Any, P], R]) -> None:
        self._method = method

    @overload
    def __get__(self, test: None, owner: type) -> Callable[Concatenate[Any, P], R]: ...
    @overload
    def __get__(self, test: object, owner: type) -> Callable[P, R]: ...
    def __get__(self, test: Any, owner: type) -> Any:
        return self._method if test is None else self._method.__get__(test.jobs)


class JobsTestMixin:
    """
    Gives each test a kit, `self.jobs`, and the kit's methods. To be listed before Django's SimpleTestCase, TestCase or
    TransactionTestCase.

    Jobs that `setUpTestData` and `setUpClass` enqueue are dropped: each test starts with none.
    """

    jobs: Kit

    perform_enqueued_jobs = _OfKit(Kit.perform_enqueued_jobs)
    aperform_enqueued_jobs = _OfKit(Kit.aperform_enqueued_jobs)
    travel = _OfKit(Kit.travel)
    atravel = _OfKit(Kit.atravel)
    redis_away = _OfKit(Kit.redis_away)
    relay = _OfKit(Kit.relay)
    interrupt = _OfKit(Kit.interrupt)
    kill = _OfKit(Kit.kill)
    assert_enqueued_with = _OfKit(Kit.assert_enqueued_with)
    assert_enqueued_jobs = _OfKit(Kit.assert_enqueued_jobs)
    assert_no_enqueued_jobs = _OfKit(Kit.assert_no_enqueued_jobs)
    assert_performed_with = _OfKit(Kit.assert_performed_with)
    assert_performed_jobs = _OfKit(Kit.assert_performed_jobs)
    assert_no_performed_jobs = _OfKit(Kit.assert_no_performed_jobs)

    assert_batch = _OfKit(Kit.assert_batch)
    assert_flow = _OfKit(Kit.assert_flow)

    @property
    def enqueued_jobs(self) -> list[Recorded]:
        """Every push of this test."""
        return self.jobs.enqueued_jobs

    @property
    def performed_jobs(self) -> list[Recorded]:
        """Every attempt of this test."""
        return self.jobs.performed_jobs

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in cls.__mro__[: cls.__mro__.index(JobsTestMixin)]:
            if issubclass(base, TestCase) and not issubclass(base, JobsTestMixin):
                raise TypeError(f"{cls.__qualname__}: JobsTestMixin must stand before {base.__qualname__}.")

    @classmethod
    def setUpClass(cls) -> None:
        cls.enterClassContext(Kit())  # type: ignore[attr-defined]
        super().setUpClass()  # type: ignore[misc]

    def run(self, result: Any = None) -> Any:
        """Run the test, its setUp and its tearDown with a kit."""
        with Kit() as self.jobs:
            return super().run(result)  # type: ignore[misc]
