"""The launchers: thin absl programs, one a file.

`python -m launch.<name>` runs one: in the root of the repository, or in any folder where the project is installed.
"""
