from jobs import Concurrency, Mandate, Rate, limit


class OneAtATime(Mandate):
    limits = [Concurrency(1)]
    result_ttl = 0
    number: int = 0

    def call(self) -> int:
        return self.number


class OnePerShop(Mandate):
    limits = [Concurrency(1, key="shop")]
    shop: str

    def call(self) -> None:
        pass


class TwoOrNone(Mandate):
    limits = [Concurrency(2, on_full="discard")]

    def call(self) -> None:
        pass


class NeedsA(Mandate):
    limits = [Concurrency(1, group="a")]

    def call(self) -> None:
        pass


class NeedsB(Mandate):
    limits = [Concurrency(1, group="b")]

    def call(self) -> None:
        pass


class NeedsBoth(Mandate):
    limits = [Concurrency(1, group="a"), Concurrency(1, group="b")]

    def call(self) -> None:
        pass


class Rated(Mandate):
    limits = [Rate(2, per=60)]
    number: int = 0

    def call(self) -> None:
        pass


class ByMethod(Mandate):
    @staticmethod
    def parity(number: int) -> str:
        if number < 0:
            raise ValueError(f"{number} is negative")
        return "even" if number % 2 == 0 else "odd"

    limits = [Concurrency(1, key=parity)]
    number: int

    def call(self) -> None:
        pass


class TwoAtOnce(Mandate):
    limits = [Concurrency(2)]

    def call(self) -> None:
        pass


class TooManyError(Exception):
    pass


class SlowsDown(Mandate):
    limits = [Rate(100, per=1, key="shop", group="api"), Concurrency(5)]
    limit_on = {TooManyError: lambda error: error.args[0]}
    shop: str
    how: str = "slow_down"

    def call(self) -> None:
        if self.how == "slow_down":
            self.slow_down(30, group="api")
        if self.how == "limit_on":
            raise TooManyError(40)


class AsksInside(Mandate):
    def call(self) -> None:
        with limit("api", Rate(1, per=60), wait=0):
            pass
