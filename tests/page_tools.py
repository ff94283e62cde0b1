"""What a page holds, read back."""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64decode
from typing import Any

_DATA = re.compile(r'<script type="application/x-deflate" id="data">([A-Za-z0-9+/=]*)</script>')


def data_of(page: str) -> Any:
    """The JSON of a page, as its browser decodes it."""
    found = _DATA.findall(page)
    assert len(found) == 1
    return json.loads(zlib.decompress(b64decode(found[0])))
