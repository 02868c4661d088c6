"""The app's name; its commands are found as any app's are."""

from django.apps import AppConfig


class BenchmarksConfig(AppConfig):
    name = "benchmarks.app"
    label = "benchmarks"
