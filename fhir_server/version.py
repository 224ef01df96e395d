"""The version of this server, as the package's own metadata tells it."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("healthsphere")
except PackageNotFoundError:  # run from a checkout that is not installed
    VERSION = "0.0.0"
