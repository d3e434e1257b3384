"""Background tasks after deletions: `Purge` deletes logs and sessions of projects, `BlobRemoval` unused images."""

from services.logging.purge.blobs import BlobRemoval
from services.logging.purge.projects import Purge

__all__ = ["BlobRemoval", "Purge"]
