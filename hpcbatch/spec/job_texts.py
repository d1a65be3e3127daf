"""What `job update` may change of a job."""

from __future__ import annotations

from hpcbatch.spec.assets import AssetTexts
from hpcbatch.spec.base import Text


class JobTexts(AssetTexts):
    """How a job is called and described; what it does was sealed when it was invoked."""

    display_name: Text | None = None
