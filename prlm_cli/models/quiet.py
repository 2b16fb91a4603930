"""Model libraries without their progress bars and warnings."""

from __future__ import annotations

import logging
import warnings

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # warns on import of kernels that only some CPUs could use
_LIBRARIES = ("transformers", "sentence_transformers", "trl")  # TRL's warning of a missing reward holds user text


class quiet_libraries:
    """Keeps progress bars and warnings of the model libraries off the streams; a context manager."""

    def __enter__(self) -> None:
        from transformers.utils import logging as transformers_logging

        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        transformers_logging.disable_progress_bar()
        self._levels = {name: logging.getLogger(name).level for name in _LIBRARIES}
        for name in _LIBRARIES:
            logging.getLogger(name).setLevel(logging.ERROR)

    def __exit__(self, *error: object) -> None:
        self._warnings.__exit__(*error)  # type: ignore[arg-type]
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
