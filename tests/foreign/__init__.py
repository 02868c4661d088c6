"""
Another project that uses `jobs`: `end_to_end.py` holds its tests, which run in a process for each of the kinds of
settings in `settings.py`. `test_settings.py` starts those processes.
"""

KINDS = ("plain", "naive", "prefix", "own_site", "manual_commit", "login_required", "own_user", "engine")
