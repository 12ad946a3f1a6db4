"""The error that stops the platform."""


class PlatformError(Exception):
    """The platform cannot start or go on; the text is the one line that the person is shown."""
