from django.apps import AppConfig


class CoursesConfig(AppConfig):
    name = "tests.courses"
    label = "courses"
