"""Jiki's own settings, in production mode, with the benchmarks' commands beside the product's."""

from config.settings import *  # noqa: F403
from config.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.app"]
