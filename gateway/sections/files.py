"""Settings of uploaded files."""

from pydantic import PositiveInt

from gateway.sections.section import Section


class FileSettings(Section):
    """Uploads to `/v1/files`."""

    limit_bytes: PositiveInt = 512 << 20
    """Size of one file. While it arrives it lies in the folder for temporary files, then in the store."""
