"""The launchers: thin absl programs, one a file, run as `python launch/<name>.py` from the repository root."""
