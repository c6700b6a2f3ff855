"""The launchers: thin absl programs, one a file.

`python launch/<name>.py` runs one from the repository root, `python -m launch.<name>` where the wheel is installed too.
"""
